// Decides, before anything is loaded, where every tensor will live and how large the caches are,
// and adds up the bytes: the account of the loaded model.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "runtime/account/account.h"
#include "runtime/memory/options.h"
#include "runtime/memory/packed_file.h"
#include "runtime/storage/stream.h"

namespace rwkv::edge {

/// Where a tensor lives.
enum class Residence : uint8_t {
  Absent,  ///< used by nothing
  Mapped,  ///< in the mapped file
  Pinned,  ///< loaded once
  Slot,    ///< loaded each time its block comes up, into the memory all blocks share
  Rows,    ///< read row by row through a cache
  Parts,   ///< in pieces, of which some are read once and the others for every token
  Window   ///< in the mapped file, resident a stretch at a time
};

struct TensorResidence {
  Residence residence = Residence::Mapped;
  Component component = Component::Vectors;
  bool by_rows = false;        ///< its rows may be read a few at a time, from any place
  uint64_t offset = 0;         ///< in pinned memory or in the slot, a multiple of 64
  uint64_t rows_per_unit = 1;  ///< Rows: read together
  uint64_t capacity = 0;       ///< Rows: units in the cache
  size_t first_piece = 0;      ///< Parts: of Residency::pieces
  size_t n_pieces = 0;
};

/// Some rows of a tensor, with a place in the memory of the stream. Views have no shared part yet.
struct PlacedPiece : StreamedPiece {
  uint64_t first_row = 0;
  std::optional<PieceSource> early;  ///< for the first tokens; fits in the same place
};

/// What the widths of pieces come to.
struct Widths {
  uint64_t bytes = 0;        ///< of all pieces, in memory or read for each token
  uint64_t full_bytes = 0;   ///< of the same at full width
  double loss = 0;           ///< nats of KL per token over full width, as the file says
  uint64_t early_bytes = 0;  ///< of all pieces, for the first token
  double early_loss = 0;
};

/// Bytes that a token reads from storage. Rows that only some tokens need count with the shares
/// that the file states (PackedFile::shares), or else completely; caches are left out, so it is
/// less after some tokens. 0 if the file is mapped: the system reads what is not in its cache.
struct ReadPerToken {
  uint64_t bytes = 0;
  bool is_bound = false;  ///< rows count completely: a token reads at most this
};

struct Residency {
  MemoryMode mode = MemoryMode::Full;
  size_t max_chunk = SIZE_MAX;  ///< tokens per pass that the limit allows
  double neuron_cache = 0;
  double head_cache = 0;
  uint64_t embedding_rows = 0;
  uint64_t pinned_blocks = 0;  ///< if blocks are streamed: the first ones, which stay in memory
  std::vector<TensorResidence> tensors;  ///< as PackedFile::tensors
  uint64_t pinned_bytes = 0;
  uint64_t slot_bytes = 0;
  // Of weights that are streamed ahead of their use.
  std::vector<PlacedPiece> pieces;  ///< of all tensors, in the order of use
  size_t n_in_blocks = 0;           ///< pieces that passes without logits need, too
  uint64_t kept_bytes = 0;          ///< memory of pieces that stay; the ring lies behind it
  uint64_t ring_bytes = 0;
  uint64_t bytes_per_second = 0;  ///< StreamOptions
  double kept_share = 0;          ///< of the bytes that could be streamed
  Widths widths;
  double seconds_per_token = 0;  ///< predicted, without rows on demand; 0: not known
  double seconds_of_first = 0;   ///< the same of the first token
  double raised_per_pass = 0;    ///< bytes of pieces that each pass reads at their later width
  uint64_t staging_bytes = 0;
  uint64_t window_bytes = 0;  ///< of the mapped file, resident at most
  ReadPerToken read;
  Account account;
};

/// Memory besides the weights.
struct OtherMemory {
  uint64_t tokenizer = 0;
  uint64_t state = 0;
  uint64_t cluster_tables = 0;                        ///< order of a clustered head's rows
  std::function<uint64_t(size_t max_chunk)> scratch;  ///< of one evaluator and its session
};

/// The mode that a file was made for. A file with predictors of its neurons, a clustered head or
/// tables of one row per token (v7a) was made for reading rows when a token needs them: windowed,
/// or sparse if a window would hold most of the rows, as in small models. Any other file: full.
MemoryMode mode_made_for(const PackedFile& file);

/// Without a limit, the requested mode or mode_made_for(). With one, the first mode of the list
/// that fits, with two exceptions: a mode whose caches would hold less than half of the rows gives
/// way to a window of the mapped file, and streamed blocks are pinned as far as there is room.
/// With a speed to be reached the mode is streamed, and without a limit takes the least memory that
/// reaches it.
/// Usage if the model does not fit in the limit, naming the smallest limit that it fits in, if the
/// speed cannot be reached, naming what can, or if an option is out of range.
Result<Residency> residency_for(const PackedFile& file, const MemoryOptions& options,
                                const OtherMemory& other);

/// The same again for a model that is in use, in mode streamed: only what is streamed changes,
/// within options.limit and at options.stream.tokens_per_second. Usage if it cannot be.
Result<Residency> streamed_again(const PackedFile& file, const Residency& now,
                                 const MemoryOptions& options, const OtherMemory& other);

}  // namespace rwkv::edge
