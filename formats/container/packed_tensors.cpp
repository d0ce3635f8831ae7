#include "formats/container/packed_tensors.h"

#include "formats/base/checksum.h"
#include "formats/base/damaged.h"
#include "formats/base/little_endian.h"
#include "formats/container/gguf_writer.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_listing.h"

namespace rwkv {
namespace {

// What the three arrays of metadata say about one tensor.
struct Claim {
  const std::string& codec;
  uint64_t rows;
  uint64_t cols;
  uint64_t xxh64;
};

DType dtype_of(GgmlType type) {
  return type == GgmlType::F32 ? DType::F32 : type == GgmlType::F16 ? DType::F16 : DType::I8;
}

// The tensor's shape as packed: GGUF's dimensions where it lists rows, with the columns in the
// place of the bytes of a row; otherwise rows and columns as claimed.
std::vector<uint64_t> shape_of(const GgufTensor& tensor, const CodecTraits& codec,
                               const Claim& claim) {
  if (!is_listed_by_row(codec)) {
    return {claim.rows, claim.cols};
  }
  std::vector<uint64_t> shape(tensor.dims.rbegin(), tensor.dims.rend());
  shape.back() = claim.cols;
  return shape;
}

Result<PackedTensor> join(const GgufTensor& tensor, const Claim& claim) {
  const CodecTraits* codec = find_codec(claim.codec);
  if (!codec) {
    return bad_input(
        "tensor '{}' has codec '{}', which this build does not know; use rwkv-edge and rwkv-press "
        "of the version that packed it, or newer",
        tensor.name, claim.codec);
  }
  // No codec takes less than a bit per value, so counts beyond the bytes are wrong; this also
  // keeps encoded_bytes() from overflowing.
  uint64_t n = 0;
  const bool is_plausible = claim.rows > 0 && claim.cols > 0 && !tensor.dims.empty() &&
                            checked_mul(claim.rows, claim.cols, n) && n / 8 <= tensor.n_bytes;
  if (is_plausible && tensor.dtype == dtype_of(listed_type(codec->codec)) &&
      codec->encoded_bytes(claim.rows, claim.cols) == tensor.n_bytes) {
    std::vector<uint64_t> shape = shape_of(tensor, *codec, claim);
    if (rows_of_shape(shape) == claim.rows && listed_dims(*codec, shape) == tensor.dims) {
      return PackedTensor{tensor.name,      codec->codec,  claim.rows,     claim.cols,
                          std::move(shape), tensor.offset, tensor.n_bytes, claim.xxh64};
    }
  }
  return damaged("tensor '{}' ({} {}, {} bytes) does not hold {} rows of {} columns in codec {}",
                 tensor.name, traits(tensor.dtype).name, shape_to_string(tensor.info().shape),
                 tensor.n_bytes, claim.rows, claim.cols, claim.codec);
}

Status check_version(const GgufFile& file, uint64_t version) {
  if (version >= keys::kOldestFormatVersion && version <= keys::kFormatVersion) {
    return {};
  }
  if (version < keys::kOldestFormatVersion) {
    return bad_input(
        "{}: packed format version {}, this program reads versions {} to {}; convert the original "
        "checkpoint again",
        file.origin(), version, keys::kOldestFormatVersion, keys::kFormatVersion);
  }
  const auto tool = file.metadata().get_string(keys::kToolVersion);
  return bad_input(
      "{}: packed format version {}, this program reads versions {} to {}; use rwkv-edge and "
      "rwkv-press {} or newer",
      file.origin(), version, keys::kOldestFormatVersion, keys::kFormatVersion,
      tool.ok() ? tool.value() : "of that version");
}

}  // namespace

bool is_packed(const GgufFile& file) {
  const auto architecture = file.metadata().get_string(keys::kArchitecture);
  return architecture.ok() && architecture.value() == keys::kArchitectureName &&
         file.metadata().contains(keys::kFormat);
}

Result<std::vector<PackedTensor>> packed_tensors(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  if (!is_packed(file)) {
    return bad_input(
        "{}: expected a packed model, found a GGUF file of another program; convert it first: "
        "rwkv-press convert {} -o NEW.gguf",
        file.origin(), file.origin());
  }
  RWKV_ASSIGN(const uint64_t version, metadata.get_u64(keys::kFormat));
  RWKV_TRY(check_version(file, version));
  RWKV_ASSIGN(const auto* codecs, metadata.get_strings(keys::kTensorCodec));
  RWKV_ASSIGN(const auto* rows, metadata.get_u64s(keys::kTensorRows));
  RWKV_ASSIGN(const auto* cols, metadata.get_u64s(keys::kTensorCols));
  RWKV_ASSIGN(const auto* checksums, metadata.get_u64s(kTensorXxh64Key));
  const size_t n = file.tensors().size();
  if (codecs->size() != n || rows->size() != n || cols->size() != n || checksums->size() != n) {
    return damaged("{}: {} tensors, but {} codecs, {} rows, {} columns and {} checksums",
                   file.origin(), n, codecs->size(), rows->size(), cols->size(), checksums->size());
  }
  std::vector<PackedTensor> result;
  for (size_t i = 0; i < n; ++i) {
    if (version < keys::kMm8FormatVersion && (*codecs)[i] == codec_traits(Codec::Mm8).name) {
      return bad_input(
          "{}: tensor '{}' is in mm8 as packed format version {} laid it out, which is no longer "
          "read; convert the original checkpoint again",
          file.origin(), file.tensors()[i].name, version);
    }
    auto tensor = join(file.tensors()[i], {(*codecs)[i], (*rows)[i], (*cols)[i], (*checksums)[i]});
    if (!tensor.ok()) {
      return tensor.status().in(file.origin());
    }
    result.push_back(tensor.take());
  }
  return result;
}

Status check_shared_part(const PackedTensor& tensor, std::span<const std::byte> shared) {
  const CodecTraits& codec = codec_traits(tensor.codec);
  return codec.check_shared ? codec.check_shared(shared).in("tensor '" + tensor.name + "'")
                            : Status();
}

Status verify_tensor(const PackedTensor& tensor, std::span<const std::byte> bytes) {
  const uint64_t found = xxh64(bytes);
  if (found != tensor.xxh64) {
    return damaged("tensor '{}': XXH64 is {:016x}, {:016x} was packed", tensor.name, found,
                   tensor.xxh64);
  }
  return {};
}

}  // namespace rwkv
