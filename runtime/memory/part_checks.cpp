#include "runtime/memory/part_checks.h"

#include <utility>

#include "formats/base/damaged.h"

namespace rwkv::edge {

PartChecks::PartChecks(std::string path, std::span<const PackedTensor> tensors)
    : path_(std::move(path)), tensors_(tensors), is_sound_(tensors.size()) {}

Status PartChecks::compare(const PackedTensor& tensor, uint64_t found, uint64_t packed) const {
  if (found == packed) {
    return {};
  }
  return damaged("{}: tensor '{}': XXH64 is {:016x}, {:016x} was packed", path_, tensor.name, found,
                 packed);
}

// Pieces of an unverified tensor come in the order of rows, or not at all; a tensor of which some
// did not come begins anew with the next pass.
Status PartChecks::check(const PieceSource& source, const std::byte* piece) {
  const PackedTensor& tensor = tensors_[source.tensor];
  if (source.has_xxh64) {
    return compare(tensor, xxh64({piece, source.n_bytes}), source.xxh64);
  }
  if (is_sound_[source.tensor]) {
    return {};
  }
  const uint64_t shared = codec_traits(source.view.codec).shared_bytes(source.view.cols);
  if (source.offset == tensor.offset + shared) {
    hash_.reset();
    hash_.update({source.view.shared, shared});
  } else if (source.offset != next_) {
    return {};
  }
  hash_.update({piece, source.n_bytes});
  next_ = source.offset + source.n_bytes;
  if (next_ == tensor.offset + tensor.n_bytes) {
    RWKV_TRY(compare(tensor, hash_.digest(), tensor.xxh64));
    is_sound_[source.tensor] = true;
  }
  return {};
}

}  // namespace rwkv::edge
