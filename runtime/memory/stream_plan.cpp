#include "runtime/memory/stream_plan.h"

#include <algorithm>
#include <vector>

#include "formats/base/little_endian.h"

namespace rwkv::edge {
namespace {

// Pieces are this share of all, within bounds: a ring of some of them is small, and each is large
// enough for storage to be fast and for threads to share.
constexpr uint64_t kPiecesOfAll = 256;
constexpr uint64_t kLeastPiece = uint64_t{512} << 10;
constexpr uint64_t kMostPiece = uint64_t{4} << 20;
// Products take rows in multiples of this.
constexpr uint64_t kRowStep = 8;

struct Piece {
  const TensorBinding* tensor;
  PlacedPart part;
  bool is_kept;
};

void cut(const TensorBinding& binding, const PackedTensor& tensor, uint64_t piece_bytes,
         std::vector<Piece>& pieces) {
  const CodecTraits& codec = codec_traits(tensor.codec);
  const uint64_t shared = codec.shared_bytes(tensor.cols);
  const uint64_t unit = codec.unit_bytes(tensor.cols);
  const uint64_t n_pieces =
      std::max<uint64_t>(1, (tensor.n_bytes - shared + piece_bytes - 1) / piece_bytes);
  const uint64_t rows_at_a_time = align_up((tensor.rows + n_pieces - 1) / n_pieces,
                                           std::max<uint64_t>(kRowStep, codec.unit_rows));
  for (uint64_t row = 0; row < tensor.rows; row += rows_at_a_time) {
    const uint64_t n = std::min(rows_at_a_time, tensor.rows - row);
    const uint64_t n_units = (n + codec.unit_rows - 1) / codec.unit_rows;
    const uint64_t offset = tensor.offset + shared + row / codec.unit_rows * unit;
    pieces.push_back({&binding, {row, n, offset, n_units * unit}, false});
  }
}

// Keeps up to `budget` bytes of the pieces that `takes_part` names; returns how many bytes it kept.
// Spread: after each piece, no more is kept than its share of what went by.
template <typename F>
uint64_t keep(std::span<Piece> pieces, uint64_t budget, bool bottom_first, const F& takes_part) {
  uint64_t all = 0;
  for (const Piece& piece : pieces) {
    all += takes_part(piece) ? piece.part.n_bytes : 0;
  }
  const double share =
      all == 0 ? 0.0 : std::min(1.0, static_cast<double>(budget) / static_cast<double>(all));
  uint64_t kept = 0;
  uint64_t gone_by = 0;
  for (Piece& piece : pieces) {
    if (!takes_part(piece)) {
      continue;
    }
    gone_by += piece.part.n_bytes;
    const double most =
        bottom_first ? static_cast<double>(budget) : share * static_cast<double>(gone_by);
    piece.is_kept = static_cast<double>(kept + piece.part.n_bytes) <= most;
    kept += piece.is_kept ? piece.part.n_bytes : 0;
  }
  return kept;
}

uint64_t bytes_of(std::span<const Piece> pieces) {
  uint64_t bytes = 0;
  for (const Piece& piece : pieces) {
    bytes += piece.part.n_bytes;
  }
  return bytes;
}

// Small pieces first: to storage, they cost more than their bytes.
uint64_t keep(std::span<Piece> pieces, const StreamChoice& choice) {
  const auto budget =
      static_cast<uint64_t>(choice.kept_share * static_cast<double>(bytes_of(pieces)));
  if (choice.options.bottom_first) {
    return keep(pieces, budget, true, [](const Piece&) { return true; });
  }
  const auto is_small = [](const Piece& piece) { return piece.part.n_bytes < kLeastPiece / 2; };
  const uint64_t small = keep(pieces, budget, false, is_small);
  return small +
         keep(pieces, budget - small, false, [&](const Piece& piece) { return !is_small(piece); });
}

// Enough wherever in its block the piece begins, so that a file that is only planned has the same
// bytes.
uint64_t area_of(const Piece& piece) {
  return align_up(piece.part.n_bytes, PieceReader::kBlock) + PieceReader::kBlock;
}

// Places in the ring, one after the other, from the start again where the end is too near.
void lay_ring(std::span<const Piece> pieces, unsigned slots, Residency& residency) {
  uint64_t largest = 0;
  uint64_t all = 0;
  for (const Piece& piece : pieces) {
    if (!piece.is_kept) {
      const uint64_t area = area_of(piece);
      largest = std::max(largest, area);
      all += area;
    }
  }
  residency.ring_bytes = std::min(slots * largest, all);
  uint64_t at = 0;
  for (const Piece& piece : pieces) {
    if (piece.is_kept) {
      continue;
    }
    const uint64_t area = area_of(piece);
    if (at + area > residency.ring_bytes) {
      at = 0;
    }
    residency.stream.push_back(
        {piece.part.offset, piece.part.n_bytes, at, component_of(*piece.tensor)});
    residency.n_in_blocks += piece.tensor->block >= 0 ? 1 : 0;
    at += area;
  }
}

// The pieces of one tensor; kept ones that follow one another become one part.
void place(std::span<const Piece> pieces, const PackedTensor& tensor, uint32_t& step,
           Residency& residency) {
  TensorResidence& where = residency.tensors[pieces.front().tensor->source];
  const uint64_t pinned_before = residency.pinned_bytes;
  where.offset = pinned_before;
  if (std::all_of(pieces.begin(), pieces.end(), [](const Piece& piece) { return piece.is_kept; })) {
    where.residence = Residence::Pinned;
    residency.pinned_bytes += align_up(tensor.n_bytes, kAlignment);
  } else {
    where.first_part = residency.parts.size();
    residency.pinned_bytes +=
        align_up(codec_traits(tensor.codec).shared_bytes(tensor.cols), kAlignment);
    for (size_t i = 0; i < pieces.size();) {
      PlacedPart part = pieces[i].part;
      if (!pieces[i].is_kept) {
        part.step = step++;
        ++i;
      } else {
        for (++i; i < pieces.size() && pieces[i].is_kept; ++i) {
          part.n_rows += pieces[i].part.n_rows;
          part.n_bytes += pieces[i].part.n_bytes;
        }
        part.place = residency.pinned_bytes;
        residency.pinned_bytes += align_up(part.n_bytes, kAlignment);
      }
      residency.parts.push_back(part);
    }
    where.n_parts = residency.parts.size() - where.first_part;
  }
  residency.account.at(where.component).resident += residency.pinned_bytes - pinned_before;
}

// A piece in the order of use.
struct Step {
  double read_seconds;  // 0: it stays in memory
  double compute_seconds;
};

// Seconds of a token in the long run: the reading thread and the computing ones, step by step, over
// tokens of which the last finds the ring as it will always be.
double simulate(std::span<const Step> steps, std::span<const uint32_t> reaches) {
  constexpr int kTokens = 4;
  const size_t n = reaches.size();
  std::vector<double> used(n * kTokens);  // when each piece was no longer needed
  double read_until = 0;
  double now = 0;
  double last_token = 0;
  size_t piece = 0;
  for (int token = 0; token < kTokens; ++token) {
    last_token = now;
    for (const Step& step : steps) {
      if (step.read_seconds > 0) {
        const uint32_t reach = reaches[piece % n];
        const double free = piece >= reach ? used[piece - reach] : 0.0;
        read_until = std::max(read_until, free) + step.read_seconds;
        now = std::max(now, read_until) + step.compute_seconds;
        used[piece++] = now;
      } else {
        now += step.compute_seconds;
      }
    }
  }
  return now - last_token;
}

double predict(std::span<const Piece> pieces, const DeviceSpeed& device,
               const Residency& residency) {
  const auto all = static_cast<double>(bytes_of(pieces));
  std::vector<Step> steps;
  for (const Piece& piece : pieces) {
    const auto bytes = static_cast<double>(piece.part.n_bytes);
    steps.push_back({piece.is_kept ? 0.0 : bytes / device.read_bytes_per_second,
                     device.compute_seconds * bytes / all});
  }
  return simulate(steps, reaches_of(residency.stream));
}

}  // namespace

bool can_be_streamed(const TensorBinding& binding, const ModelConfig& config) {
  switch (binding.role) {
    case Role::Lora:
      return binding.shape.size() == 2;  // products take slices of the others
    case Role::Projection:
    case Role::FfnKey:
    case Role::FfnValue:
    case Role::Head:
      return true;
    case Role::Predictor:
    case Role::SignBits:
      return config.deep_embed == 0;  // v7a uses them after matrices that are packed behind them
    case Role::Vector:
    case Role::Embedding:
    case Role::ClusterHead:
    case Role::TokenRows:
    case Role::InitialState:
    case Role::Ignored:
      return false;
  }
  return false;
}

void plan_stream(const PackedFile& file, std::span<const TensorBinding* const> streamed,
                 const StreamChoice& choice, Residency& residency) {
  uint64_t all = 0;
  for (const TensorBinding* binding : streamed) {
    all += file.tensors[binding->source].n_bytes;
  }
  const uint64_t piece_bytes = choice.options.piece_bytes > 0
                                   ? choice.options.piece_bytes
                                   : std::clamp(all / kPiecesOfAll, kLeastPiece, kMostPiece);
  std::vector<Piece> pieces;
  for (const TensorBinding* binding : streamed) {
    cut(*binding, file.tensors[binding->source], piece_bytes, pieces);
  }
  const uint64_t kept = keep(pieces, choice);
  const uint64_t bytes = bytes_of(pieces);
  residency.kept_share = bytes == 0 ? 0.0 : static_cast<double>(kept) / static_cast<double>(bytes);
  residency.bytes_per_second = choice.options.bytes_per_second;
  lay_ring(pieces, choice.slots, residency);
  if (choice.options.device.is_known()) {
    residency.seconds_per_token = predict(pieces, choice.options.device, residency);
  }
  uint32_t step = 0;
  for (size_t i = 0; i < pieces.size();) {
    size_t end = i;
    while (end < pieces.size() && pieces[end].tensor == pieces[i].tensor) {
      ++end;
    }
    place(std::span(pieces).subspan(i, end - i), file.tensors[pieces[i].tensor->source], step,
          residency);
    i = end;
  }
}

}  // namespace rwkv::edge
