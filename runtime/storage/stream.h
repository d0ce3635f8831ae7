// Pieces of a file that every pass needs in the same order, read ahead of their use by a thread of
// their own: some once, into memory where they stay, the others for every pass, into a ring.
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

#include "formats/codec/matrix_view.h"
#include "runtime/account/traffic.h"
#include "runtime/storage/piece_reader.h"

namespace rwkv::edge {

/// What a piece is read from, at one of the widths that the file may have of it.
struct PieceSource {
  uint64_t offset = 0;   ///< in the file
  uint64_t n_bytes = 0;  ///< 0: the piece is left out, and is never read
  size_t tensor = 0;     ///< that has these rows
  uint64_t xxh64 = 0;    ///< of these bytes, if has_xxh64
  bool has_xxh64 = false;
  double loss = 0;  ///< nats of KL per token over full width, as the file says
  MatrixView view;  ///< without units
  bool operator==(const PieceSource& other) const {
    return offset == other.offset && n_bytes == other.n_bytes;
  }
};

/// A piece and its place in memory.
struct StreamedPiece {
  PieceSource source;
  uint64_t area = 0;        ///< a multiple of PieceReader::kBlock
  uint64_t area_bytes = 0;  ///< enough for every source that it will have
  bool stays = false;       ///< nothing else uses the area, so it is read only once
  Component component = Component::TimeMix;
};

/// Pieces that are to be read from another source, one after the other as passes go by.
struct PieceRaises {
  struct Raise {
    size_t step;
    PieceSource source;  ///< fits in the area of the piece
  };
  std::vector<Raise> raises;
  double bytes_per_pass = 0;  ///< of raised pieces; what is left over counts for the next pass
};

/// How many pieces back, counted round and round, the nearest one is that shares memory with each:
/// until that one is no longer needed, the piece cannot be read.
std::vector<uint32_t> reaches_of(std::span<const StreamedPiece> pieces);

/// What a stream has done since it was made.
struct StreamStats {
  size_t n_pieces = 0;  ///< read for every pass
  uint64_t read_bytes = 0;
  double read_seconds = 0;    ///< that reads took
  double waited_seconds = 0;  ///< that passes waited for a piece
  size_t n_to_raise = 0;      ///< pieces that are still to come from another source
  bool is_direct = false;
};

/// Looks at pieces when they were read, in the thread that reads.
class PieceCheck {
 public:
  virtual ~PieceCheck() = default;
  /// An error ends the pass that needs the piece.
  virtual Status check(const PieceSource& source, const std::byte* piece) = 0;
  /// Whether a piece that stays need not be read again in order to be checked.
  virtual bool is_sound(const PieceSource& source) const = 0;
};

/// One pass at a time uses it: begin(), then for each piece await() and done(), in ascending order.
/// Pieces may be left out.
class Stream {
 public:
  /// Begins to read, and to check if there is a check. `pieces` in the order of use; the first
  /// `n_always` are needed by every pass, the others by passes that say so. `memory` starts at a
  /// whole block and outlives the stream. Throws std::system_error if there can be no thread.
  Stream(std::unique_ptr<PieceReader> reader, std::vector<StreamedPiece> pieces, size_t n_always,
         std::span<std::byte> memory, std::unique_ptr<PieceCheck> check = nullptr,
         PieceRaises raises = {});
  /// Waits for the read that is under way.
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// The piece as it was read; without units if it is left out. Between await() and done().
  MatrixView view(size_t step) const;
  bool stays(size_t step) const { return pieces_[step].stays; }

  /// A pass begins, after a whole one or one that failed. `with_rest`: it needs all pieces.
  /// `traffic` counts what is read and left out.
  void begin(bool with_rest, Traffic& traffic);
  /// Whether await() would not wait.
  bool has(size_t step);
  /// Waits until the piece is there; those before `in_use` (at most `step`) are no longer needed.
  /// Fails if its read did: the next pass tries again.
  Status await(size_t step, size_t in_use, Traffic& traffic);
  Status await(size_t step, Traffic& traffic) { return await(step, step, traffic); }
  /// The piece and those before it are no longer needed.
  void done(size_t step, Traffic& traffic);

  /// Between passes: the same pieces at other places of other memory, from other sources. Those
  /// that stay before and after, from the same source, are moved; old memory is released as they
  /// are, so that both together are not much larger than the larger one. The others are read.
  void move_to(std::vector<StreamedPiece> pieces, std::span<std::byte> memory);

  StreamStats stats() const;

 private:
  using Clock = std::chrono::steady_clock;
  // What is in the area of a piece.
  struct Loaded {
    PieceSource source;
    bool is_there = false;
    uint64_t n_read = 0;  ///< for the pass to come, not yet counted
  };
  void run();
  bool may_load() const;
  bool need_not_read(size_t step) const;
  void read(size_t step, std::unique_lock<std::mutex>& lock);
  void raise();
  size_t size() const { return pieces_.size(); }
  uint64_t lap_end(uint64_t n) const { return (n / size() + 1) * size(); }
  void advance(uint64_t to, Traffic& traffic);

  std::unique_ptr<PieceReader> reader_;
  std::unique_ptr<PieceCheck> check_;
  std::vector<StreamedPiece> pieces_;
  std::vector<uint32_t> reaches_;
  std::vector<Loaded> loaded_pieces_;
  PieceRaises raises_;
  size_t n_raised_ = 0;
  double raise_bytes_ = 0;  ///< that the next raises may read
  size_t n_always_;
  std::span<std::byte> memory_;
  // Pieces are numbered through all passes: number / size() is the pass.
  mutable std::mutex mutex_;
  std::condition_variable was_loaded_, was_used_;
  uint64_t lap_ = 0;       ///< first piece of the pass that began last
  uint64_t loaded_ = 0;    ///< the next to be read
  uint64_t used_ = 0;      ///< those before are no longer needed
  bool with_rest_ = true;  ///< of that pass
  bool is_reading_ = false;
  bool is_held_ = false;  ///< nothing may be read
  bool is_ending_ = false;
  Status failure_;  ///< of the read of loaded_
  uint64_t read_bytes_ = 0;
  Clock::duration read_time_{}, waited_time_{};
  std::thread thread_;
};

}  // namespace rwkv::edge
