// Checksums of the tensors whose pieces a stream reads, verified when they are read.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "formats/base/checksum.h"
#include "formats/container/packed_tensors.h"
#include "runtime/storage/stream.h"

namespace rwkv::edge {

/// Pieces with a checksum of their own are verified the first time that they are read. Other
/// tensors are verified in the first pass that reads all of their pieces, in the order of rows;
/// until then their pieces are read again by every pass. Afterwards pieces are taken as they come.
class PartChecks final : public PieceCheck {
 public:
  /// `tensors` outlive it.
  PartChecks(std::string path, std::span<const PackedTensor> tensors);
  /// BadInput with the name of the tensor, for its last piece or one of its own checksum, if the
  /// checksum is another.
  Status check(const PieceSource& source, const std::byte* piece) override;
  bool is_sound(const PieceSource& source) const override {
    return source.has_xxh64 || is_sound_[source.tensor];
  }

 private:
  Status compare(const PackedTensor& tensor, uint64_t found, uint64_t packed) const;

  std::string path_;
  std::span<const PackedTensor> tensors_;
  std::vector<bool> is_sound_;  ///< by tensor
  StreamingXxh64 hash_;         ///< of the tensor that is being read
  uint64_t next_ = 0;           ///< what follows in the file
};

}  // namespace rwkv::edge
