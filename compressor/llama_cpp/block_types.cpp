#include "compressor/llama_cpp/block_types.h"

#include <algorithm>
#include <array>
#include <vector>

#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

// The rows of a super-block of 256 values may also be written in blocks of 32 with as many bits.
constexpr std::array<BlockType, 7> kTypes = {{
    {"f32", DType::F32, GgmlType::F32, 0, 0, DType::F32, DType::F32},
    {"f16", DType::F16, GgmlType::F16, 1, 0, DType::F16, DType::F16},
    {"q8_0", DType::Q8_0, GgmlType::Q8_0, 7, 32, DType::F16, DType::Q8_0},
    {"q6_k", DType::Q6_K, GgmlType::Q6_K, 18, 16, DType::Q8_0, DType::Q6_K},
    {"q4_k", DType::Q4_K, GgmlType::Q4_K, 14, 32, DType::IQ4_NL, DType::Q6_K},
    {"iq4_nl", DType::IQ4_NL, GgmlType::IQ4_NL, 25, 32, DType::F16, DType::Q6_K},
    {"q4_0", DType::Q4_0, GgmlType::Q4_0, 2, 32, DType::F16, DType::Q6_K},
}};

}  // namespace

std::span<const BlockType> block_types() {
  return kTypes;
}

const BlockType& block_type(DType dtype) {
  return *std::find_if(kTypes.begin(), kTypes.end(),
                       [&](const BlockType& type) { return type.dtype == dtype; });
}

Result<const BlockType*> block_type_named(const std::string& name, const char* option) {
  std::vector<std::string_view> names;
  for (const BlockType& type : kTypes) {
    if (type.name == name) {
      return &type;
    }
    names.emplace_back(type.name);
  }
  return usage_error("--{}: expected {}, found '{}'{}", option, block_type_names(), name,
                     suggestion(name, names));
}

std::string block_type_names() {
  std::string names;
  for (const BlockType& type : kTypes) {
    names += names.empty() ? "" : "|";
    names += type.name;
  }
  return names;
}

DType fitting_type(DType wanted, uint64_t cols) {
  while (cols % traits(wanted).block != 0) {
    wanted = block_type(wanted).narrower;
  }
  return wanted;
}

}  // namespace rwkv::press
