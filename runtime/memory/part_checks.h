// Checksums of the tensors that are streamed, verified when their bytes are read for the first
// time.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "formats/base/checksum.h"
#include "runtime/memory/residency.h"

namespace rwkv::edge {

/// A tensor is verified in the first pass that reads all of it, with its rows that stay in memory;
/// afterwards its pieces are taken as they come.
class PartChecks final : public PieceCheck {
 public:
  /// `parts` as Residency::parts, with their views; all outlive it.
  PartChecks(std::string path, std::span<const PackedTensor> tensors, const Residency& residency,
             std::span<const MatrixPart> parts);
  /// BadInput with the name of the tensor, for its last piece, if its checksum is another.
  Status check(size_t step, const std::byte* piece) override;

 private:
  struct Checked {
    const PackedTensor* tensor;
    size_t first_part;
    size_t end_part;
    bool is_sound = false;
  };
  struct Place {
    size_t checked;
    size_t part;
  };
  size_t add_until_next_piece(size_t part, size_t end);

  std::string path_;
  std::span<const PlacedPart> placed_;
  std::span<const MatrixPart> parts_;
  std::vector<Checked> checked_;
  std::vector<Place> places_;  ///< of each step
  StreamingXxh64 hash_;
  size_t next_part_ = SIZE_MAX;  ///< that may be added to hash_
};

}  // namespace rwkv::edge
