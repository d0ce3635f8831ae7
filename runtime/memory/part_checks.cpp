#include "runtime/memory/part_checks.h"

#include <utility>

#include "formats/base/damaged.h"

namespace rwkv::edge {

PartChecks::PartChecks(std::string path, std::span<const PackedTensor> tensors,
                       const Residency& residency, std::span<const MatrixPart> parts)
    : path_(std::move(path)), placed_(residency.parts), parts_(parts) {
  places_.resize(residency.stream.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorResidence& tensor = residency.tensors[i];
    if (tensor.n_parts == 0) {
      continue;
    }
    for (size_t part = tensor.first_part; part < tensor.first_part + tensor.n_parts; ++part) {
      if (placed_[part].step != MatrixPart::kAlwaysThere) {
        places_[placed_[part].step] = {checked_.size(), part};
      }
    }
    checked_.push_back({&tensors[i], tensor.first_part, tensor.first_part + tensor.n_parts});
  }
}

// Adds parts that are in memory, from `part` on; returns the next one that is not.
size_t PartChecks::add_until_next_piece(size_t part, size_t end) {
  for (; part < end && placed_[part].step == MatrixPart::kAlwaysThere; ++part) {
    hash_.update({parts_[part].view.units, placed_[part].n_bytes});
  }
  return part;
}

Status PartChecks::check(size_t step, const std::byte* piece) {
  const auto [at, part] = places_[step];
  Checked& checked = checked_[at];
  if (checked.is_sound) {
    return {};
  }
  size_t first = checked.first_part;
  while (placed_[first].step == MatrixPart::kAlwaysThere) {
    ++first;
  }
  if (part == first) {
    const MatrixView& view = parts_[part].view;
    hash_.reset();
    hash_.update({view.shared, codec_traits(view.codec).shared_bytes(view.cols)});
    next_part_ = add_until_next_piece(checked.first_part, checked.end_part);
  }
  if (part != next_part_) {
    return {};  // a pass left pieces out, or failed; the next one begins anew
  }
  hash_.update({piece, placed_[part].n_bytes});
  next_part_ = add_until_next_piece(part + 1, checked.end_part);
  if (next_part_ < checked.end_part) {
    return {};
  }
  const uint64_t found = hash_.digest();
  if (found != checked.tensor->xxh64) {
    return damaged("{}: tensor '{}': XXH64 is {:016x}, {:016x} was packed", path_,
                   checked.tensor->name, found, checked.tensor->xxh64);
  }
  checked.is_sound = true;
  return {};
}

}  // namespace rwkv::edge
