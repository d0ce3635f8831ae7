// The streams of activations of a training block by block: the teacher's and the student's, each at
// the block where it is. A stream that is asked for is computed from the nearest one before it, so
// a training that was killed goes on from what it left.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compressor/train/activations.h"
#include "compressor/train/block_loss.h"
#include "compressor/train/trainer.h"

namespace rwkv::press {

/// Part 0 of every stream's file. The others: see BlockStreams::parts.
inline constexpr size_t kStreamX = 0;

class BlockStreams {
 public:
  struct Setting {
    std::string folder;
    ModelRef teacher, student;
    uint64_t n_sequences = 0;
    int64_t length = 0;
    Precision precision = Precision::F32;
    at::Device device = at::kCPU;  ///< of the computations; what is read and written is here
    std::string settings;          ///< all that the activations depend on
    /// The tokens of sequences [first, first + n), int64 [n, length].
    std::function<Result<at::Tensor>(uint64_t first, int64_t n)> tokens;
    /// Called with what is computed and the share done.
    std::function<void(const std::string& what, double share)> progress;
  };
  explicit BlockStreams(Setting setting) : setting_(std::move(setting)) {}

  /// The teacher's stream before block `index`, and, if that is above 0, what its predecessor
  /// gives: v_first and states.
  Result<ActivationFile> teacher(int64_t index) { return open(kTeacher, index); }
  /// The student's. Blocks before `index` must be in its source as they are trained.
  Result<ActivationFile> student(int64_t index) { return open(kStudent, index); }
  /// v7's values of the first block, for blocks after it; nothing for other versions.
  Result<std::optional<ActivationFile>> first_values(bool is_students, int64_t index);

  /// What the teacher's block before stream `index` gives for these sequences.
  Result<BlockValues> targets(const ActivationFile& file, int64_t index,
                              std::span<const uint64_t> sequences) const;
  /// Part of first_values().
  static constexpr size_t kFirstValues = 1;

  /// Removes the streams before `index`, except what later blocks need; with the number of blocks
  /// and one more, all of them.
  void remove_before(int64_t index);

 private:
  enum Side { kTeacher, kStudent };
  ActivationShape shape(Side side, int64_t index) const;
  std::string path(Side side, int64_t index) const;
  bool has_first_values() const;
  Result<ActivationFile> open(Side side, int64_t index);
  Status write(Side side, int64_t index);
  Status write_embedding(Side side);
  Status write_after(Side side, int64_t index);

  Setting setting_;
};

}  // namespace rwkv::press
