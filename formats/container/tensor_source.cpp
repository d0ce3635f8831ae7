#include "formats/container/tensor_source.h"

#include <algorithm>
#include <array>
#include <limits>

#include "formats/base/damaged.h"
#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/container/ggml_blocks.h"
#include "formats/container/ggml_super_blocks.h"

namespace rwkv {
namespace {

constexpr size_t kMaxDims = 8;  // PyTorch allows more; no RWKV tensor has more than four

constexpr std::array kDTypes = {
    DTypeTraits{DType::F32, "f32", 1, 4, true},
    DTypeTraits{DType::F16, "f16", 1, 2, true},
    DTypeTraits{DType::BF16, "bf16", 1, 2, true},
    DTypeTraits{DType::F64, "f64", 1, 8, true},
    DTypeTraits{DType::I8, "i8", 1, 1, false},
    DTypeTraits{DType::U8, "u8", 1, 1, false},
    DTypeTraits{DType::I16, "i16", 1, 2, false},
    DTypeTraits{DType::I32, "i32", 1, 4, false},
    DTypeTraits{DType::I64, "i64", 1, 8, false},
    DTypeTraits{DType::Bool, "bool", 1, 1, false},
    DTypeTraits{DType::Q4_0, "q4_0", kGgmlBlock, kQ4_0Bytes, false},
    DTypeTraits{DType::Q4_1, "q4_1", kGgmlBlock, kQ4_1Bytes, false},
    DTypeTraits{DType::Q5_0, "q5_0", kGgmlBlock, kQ5_0Bytes, false},
    DTypeTraits{DType::Q5_1, "q5_1", kGgmlBlock, kQ5_1Bytes, false},
    DTypeTraits{DType::Q8_0, "q8_0", kGgmlBlock, kQ8_0Bytes, false},
    DTypeTraits{DType::Q2_K, "q2_k", kGgmlSuperBlock, kQ2KBytes, false},
    DTypeTraits{DType::Q3_K, "q3_k", kGgmlSuperBlock, kQ3KBytes, false},
    DTypeTraits{DType::Q4_K, "q4_k", kGgmlSuperBlock, kQ4KBytes, false},
    DTypeTraits{DType::Q5_K, "q5_k", kGgmlSuperBlock, kQ5KBytes, false},
    DTypeTraits{DType::Q6_K, "q6_k", kGgmlSuperBlock, kQ6KBytes, false},
    DTypeTraits{DType::IQ4_NL, "iq4_nl", kGgmlBlock, kIq4NlBytes, false},
    DTypeTraits{DType::IQ4_XS, "iq4_xs", kGgmlSuperBlock, kIq4XsBytes, false},
};

// traits() indexes the list by the enum's value.
constexpr bool in_enum_order() {
  for (size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<size_t>(kDTypes[i].dtype) != i) {
      return false;
    }
  }
  return kDTypes.size() == static_cast<size_t>(DType::IQ4_XS) + 1;
}
static_assert(in_enum_order(), "one row per DType, in the order of the enum");

template <typename T>
void convert_plain(std::span<const std::byte> bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(load_le<T>(bytes.data() + i * sizeof(T)));
  }
}

void convert_bool(std::span<const std::byte> bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = bytes[i] == std::byte{0} ? 0.0f : 1.0f;
  }
}

void convert_16bit(float (*to_float)(uint16_t), std::span<const std::byte> bytes,
                   std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = to_float(load_le<uint16_t>(bytes.data() + 2 * i));
  }
}

}  // namespace

std::span<const DTypeTraits> dtype_list() {
  return kDTypes;
}

const DTypeTraits& traits(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)];
}

const DTypeTraits* find_dtype(std::string_view name) {
  const auto* found = std::find_if(kDTypes.begin(), kDTypes.end(),
                                   [&](const DTypeTraits& row) { return row.name == name; });
  return found == kDTypes.end() ? nullptr : found;
}

uint64_t TensorInfo::n_elements() const {
  uint64_t n = 1;
  for (const uint64_t dim : shape) {
    n *= dim;
  }
  return n;
}

uint64_t TensorInfo::n_bytes() const {
  const DTypeTraits& type = traits(dtype);
  return n_elements() / type.block * type.block_bytes;
}

std::string shape_to_string(std::span<const uint64_t> shape) {
  if (shape.empty()) {
    return "scalar";
  }
  std::string text = std::to_string(shape[0]);
  for (const uint64_t dim : shape.subspan(1)) {
    text += 'x' + std::to_string(dim);
  }
  return text;
}

Status check_tensor_size(const TensorInfo& info) {
  if (info.shape.size() > kMaxDims) {
    return damaged("tensor {}: has {} dimensions, at most {} are accepted", info.name,
                   info.shape.size(), kMaxDims);
  }
  const DTypeTraits& type = traits(info.dtype);
  const std::string shape = shape_to_string(info.shape);
  uint64_t elements = 1;
  for (const uint64_t dim : info.shape) {
    if (dim == 0) {
      return bad_input(
          "tensor {}: expected elements, found shape {}, a placeholder as DeepSpeed's ZeRO-3 "
          "leaves: "
          "the weights are in other files; gather them first (zero_to_fp32.py)",
          info.name, shape);
    }
    if (!checked_mul(elements, dim, elements)) {
      return damaged("tensor {}: shape {} has more elements than 64 bits can count", info.name,
                     shape);
    }
  }
  const uint64_t last = info.shape.empty() ? 1 : info.shape.back();
  if (last % type.block != 0) {
    return damaged("tensor {}: {} needs a last dimension divisible by {}, shape is {}", info.name,
                   type.name, type.block, shape);
  }
  // The limit is that of one contiguous buffer: smaller where addresses have 32 bits.
  constexpr auto kMaxBytes = static_cast<uint64_t>(std::numeric_limits<ptrdiff_t>::max());
  uint64_t bytes = 0;
  if (!checked_mul(elements / type.block, type.block_bytes, bytes) || bytes > kMaxBytes) {
    return damaged("tensor {}: {} of shape {} is larger than memory can address", info.name,
                   type.name, shape);
  }
  return {};
}

void decode_to_f32(DType dtype, std::span<const std::byte> bytes, std::span<float> out) {
  switch (dtype) {
    case DType::F32:
      return convert_plain<float>(bytes, out);
    case DType::F16:
      return convert_16bit(f16_to_f32, bytes, out);
    case DType::BF16:
      return convert_16bit(bf16_to_f32, bytes, out);
    case DType::F64:
      return convert_plain<double>(bytes, out);
    case DType::I8:
      return convert_plain<int8_t>(bytes, out);
    case DType::U8:
      return convert_plain<uint8_t>(bytes, out);
    case DType::I16:
      return convert_plain<int16_t>(bytes, out);
    case DType::I32:
      return convert_plain<int32_t>(bytes, out);
    case DType::I64:
      return convert_plain<int64_t>(bytes, out);
    case DType::Bool:
      return convert_bool(bytes, out);
    case DType::Q4_0:
      return decode_q4_0(bytes, out);
    case DType::Q4_1:
      return decode_q4_1(bytes, out);
    case DType::Q5_0:
      return decode_q5_0(bytes, out);
    case DType::Q5_1:
      return decode_q5_1(bytes, out);
    case DType::Q8_0:
      return decode_q8_0(bytes, out);
    case DType::Q2_K:
      return decode_q2_k(bytes, out);
    case DType::Q3_K:
      return decode_q3_k(bytes, out);
    case DType::Q4_K:
      return decode_q4_k(bytes, out);
    case DType::Q5_K:
      return decode_q5_k(bytes, out);
    case DType::Q6_K:
      return decode_q6_k(bytes, out);
    case DType::IQ4_NL:
      return decode_iq4_nl(bytes, out);
    case DType::IQ4_XS:
      return decode_iq4_xs(bytes, out);
  }
}

Status TensorSource::read_range(size_t index, uint64_t offset, std::span<std::byte> out) const {
  std::vector<std::byte> whole;
  RWKV_TRY(read(index, whole));
  if (offset > whole.size() || out.size() > whole.size() - offset) {
    return failed("{}: tensor {}: internal error: {} bytes requested at offset {} of {}", path(),
                  tensors()[index].name, out.size(), offset, whole.size());
  }
  std::copy_n(whole.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
  return {};
}

}  // namespace rwkv
