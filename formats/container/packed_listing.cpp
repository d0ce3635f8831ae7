#include "formats/container/packed_listing.h"

namespace rwkv {
namespace {

// general.file_type as llama.cpp numbers it; our own have none, so all of them are "mostly 8 bit".
constexpr uint32_t kMostlyF32 = 0;
constexpr uint32_t kMostlyF16 = 1;
constexpr uint32_t kMostly8Bit = 7;

}  // namespace

GgmlType listed_type(Codec codec) {
  return codec == Codec::F32 ? GgmlType::F32 : codec == Codec::F16 ? GgmlType::F16 : GgmlType::I8;
}

bool is_listed_by_row(const CodecTraits& codec) {
  return codec.shared_bytes(1) == 0 && codec.unit_rows == 1;
}

std::vector<uint64_t> listed_dims(const CodecTraits& codec, std::span<const uint64_t> shape) {
  if (!is_listed_by_row(codec)) {
    return {codec.encoded_bytes(rows_of_shape(shape), shape.back())};
  }
  std::vector<uint64_t> dims(shape.rbegin(), shape.rend());
  if (listed_type(codec.codec) == GgmlType::I8) {
    dims[0] = codec.unit_bytes(dims[0]);
  }
  return dims;
}

uint32_t listed_file_type(Codec codec) {
  return codec == Codec::F32 ? kMostlyF32 : codec == Codec::F16 ? kMostlyF16 : kMostly8Bit;
}

uint64_t rows_of_shape(std::span<const uint64_t> shape) {
  uint64_t rows = 1;
  for (const uint64_t dim : shape.first(shape.size() - 1)) {
    rows *= dim;
  }
  return rows;
}

}  // namespace rwkv
