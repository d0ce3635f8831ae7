// Pieces of a file that every pass needs in the same order, read ahead of their use by a thread of
// their own into a ring. Where a piece lies is decided once, so addresses never change.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "runtime/account/traffic.h"
#include "runtime/storage/piece_reader.h"

namespace rwkv::edge {

/// A piece of the file and its place.
struct StreamedPiece {
  uint64_t offset;  ///< in the file
  uint64_t n_bytes;
  uint64_t area;  ///< in the ring, a multiple of PieceReader::kBlock
  Component component;
};

/// How many pieces back, counted round and round, the nearest one is that shares memory with each:
/// until that one is no longer needed, the piece cannot be read.
std::vector<uint32_t> reaches_of(std::span<const StreamedPiece> pieces);

/// What a stream has done since it was made.
struct StreamStats {
  size_t n_pieces = 0;
  uint64_t ring_bytes = 0;
  uint64_t read_bytes = 0;
  double read_seconds = 0;    ///< that reads took
  double waited_seconds = 0;  ///< that passes waited for a piece
  bool is_direct = false;
};

/// Looks at pieces when they were read, in the thread that reads.
class PieceCheck {
 public:
  virtual ~PieceCheck() = default;
  /// An error ends the pass that needs the piece.
  virtual Status check(size_t step, const std::byte* piece) = 0;
};

/// One pass at a time uses it: begin(), then for each piece await() and done(), in ascending order.
/// Pieces may be left out.
class Stream {
 public:
  /// Begins to read, and to check if there is a check. `pieces` in the order of use; the first
  /// `n_always` are needed by every pass, the others by passes that say so. `ring` starts at a
  /// whole block and outlives the stream. Throws std::system_error if there can be no thread.
  Stream(std::unique_ptr<PieceReader> reader, std::vector<StreamedPiece> pieces, size_t n_always,
         std::span<std::byte> ring, std::unique_ptr<PieceCheck> check = nullptr);
  /// Waits for the read that is under way.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Where the piece lies between await() and done().
  const std::byte* at(size_t step) const;

  /// A pass begins, after a whole one or one that failed. `with_rest`: it needs all pieces.
  /// `traffic` counts what is read and left out.
  void begin(bool with_rest, Traffic& traffic);
  /// Whether await() would not wait.
  bool has(size_t step);
  /// Waits until the piece is there; those before it are no longer needed. Fails if its read did:
  /// the next pass tries again.
  Status await(size_t step, Traffic& traffic);
  /// The piece and those before it are no longer needed.
  void done(size_t step, Traffic& traffic);

  StreamStats stats() const;

 private:
  using Clock = std::chrono::steady_clock;
  void run();
  bool may_load() const;
  uint64_t lap_end(uint64_t n) const { return (n / pieces_.size() + 1) * pieces_.size(); }
  void advance(uint64_t to, Traffic& traffic);

  std::unique_ptr<PieceReader> reader_;
  std::unique_ptr<PieceCheck> check_;
  std::vector<StreamedPiece> pieces_;
  std::vector<uint32_t> reaches_;
  size_t n_always_;
  std::span<std::byte> ring_;
  // Pieces are numbered through all passes: number / pieces_.size() is the pass.
  mutable std::mutex mutex_;
  std::condition_variable was_loaded_, was_used_;
  uint64_t lap_ = 0;            ///< first piece of the pass that began last
  uint64_t loaded_ = 0;         ///< the next to be read
  uint64_t used_ = 0;           ///< those before are no longer needed
  bool with_rest_ = true;       ///< of that pass
  uint64_t left_out_from_ = 0;  ///< pieces [from, to) of that pass are not read
  uint64_t left_out_to_ = 0;
  bool is_ending_ = false;
  Status failure_;  ///< of the read of loaded_
  uint64_t read_bytes_ = 0;
  Clock::duration read_time_{}, waited_time_{};
  std::thread thread_;
};

}  // namespace rwkv::edge
