#include "runtime/memory/stream_plan.h"

#include <algorithm>
#include <vector>

#include "formats/base/little_endian.h"
#include "runtime/memory/piece_widths.h"
#include "runtime/memory/stream_times.h"

namespace rwkv::edge {
namespace {

// To storage, smaller pieces cost more than their bytes.
constexpr uint64_t kSmall = uint64_t{256} << 10;

uint64_t bytes_of(std::span<const PlacedPiece> pieces) {
  uint64_t bytes = 0;
  for (const PlacedPiece& piece : pieces) {
    bytes += piece.source.n_bytes;
  }
  return bytes;
}

// Keeps up to `budget` bytes of the pieces that `takes_part` names; returns how many bytes it kept.
// Spread: after each piece, no more is kept than its share of what went by.
template <typename F>
uint64_t keep(std::span<PlacedPiece> pieces, uint64_t budget, bool bottom_first,
              const F& takes_part) {
  uint64_t all = 0;
  for (const PlacedPiece& piece : pieces) {
    all += takes_part(piece) ? piece.source.n_bytes : 0;
  }
  const double share =
      all == 0 ? 0.0 : std::min(1.0, static_cast<double>(budget) / static_cast<double>(all));
  uint64_t kept = 0;
  uint64_t gone_by = 0;
  for (PlacedPiece& piece : pieces) {
    if (!takes_part(piece)) {
      continue;
    }
    gone_by += piece.source.n_bytes;
    const double most =
        bottom_first ? static_cast<double>(budget) : share * static_cast<double>(gone_by);
    piece.stays = static_cast<double>(kept + piece.source.n_bytes) <= most;
    kept += piece.stays ? piece.source.n_bytes : 0;
  }
  return kept;
}

// Small pieces first.
uint64_t keep(std::span<PlacedPiece> pieces, const StreamChoice& choice) {
  const auto budget =
      static_cast<uint64_t>(choice.kept_share * static_cast<double>(bytes_of(pieces)));
  if (choice.options.bottom_first) {
    return keep(pieces, budget, true, [](const PlacedPiece&) { return true; });
  }
  const auto is_small = [](const PlacedPiece& piece) { return piece.source.n_bytes < kSmall; };
  const uint64_t small = keep(pieces, budget, false, is_small);
  return small + keep(pieces, budget - small, false,
                      [&](const PlacedPiece& piece) { return !is_small(piece); });
}

// Enough wherever in its block the piece begins, so that a file that is only planned has the same
// bytes.
uint64_t area_of(const PlacedPiece& piece) {
  return piece.source.n_bytes == 0
             ? 0
             : align_up(piece.source.n_bytes, PieceReader::kBlock) + PieceReader::kBlock;
}

// Those that stay one after the other, and behind them the ring, from its start again where its end
// is too near.
void lay_out(std::span<PlacedPiece> pieces, unsigned slots, Residency& residency) {
  uint64_t largest = 0;
  uint64_t passing = 0;
  for (PlacedPiece& piece : pieces) {
    piece.area_bytes = area_of(piece);
    if (piece.stays) {
      piece.area = residency.kept_bytes;
      residency.kept_bytes += piece.area_bytes;
      residency.account.at(piece.component).resident += piece.area_bytes;
    } else {
      largest = std::max(largest, piece.area_bytes);
      passing += piece.area_bytes;
    }
  }
  residency.ring_bytes = std::min(slots * largest, passing);
  uint64_t at = 0;
  for (PlacedPiece& piece : pieces) {
    if (!piece.stays) {
      at = at + piece.area_bytes > residency.ring_bytes ? 0 : at;
      piece.area = residency.kept_bytes + at;
      at += piece.area_bytes;
    }
  }
}

// Seconds that a piece takes of a token, at one of its widths.
double compute_seconds(const CutPiece& piece, const PieceSource& version, uint64_t full_bytes,
                       const DeviceSpeed& device) {
  const PieceSource& full = piece.versions.front();
  const auto share = [&](uint64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(full_bytes);
  };
  const auto bits = static_cast<size_t>(codec_traits(version.view.codec).bits);
  const bool is_narrower = version.n_bytes < full.n_bytes;
  if (is_narrower && bits < device.narrow_seconds.size() && device.narrow_seconds[bits] > 0) {
    return version.n_bytes == 0 ? 0.0 : device.narrow_seconds[bits] * share(full.n_bytes);
  }
  return device.compute_seconds * share(version.n_bytes);
}

void predict(std::span<const CutPiece> cut, const DeviceSpeed& device, Residency& residency) {
  const std::vector<PlacedPiece>& placed = residency.pieces;
  std::vector<PieceTimes> later;
  std::vector<PieceTimes> first;
  const auto times = [&](size_t i, const PieceSource& version, bool is_read) {
    return PieceTimes{
        is_read ? static_cast<double>(version.n_bytes) / device.read_bytes_per_second : 0.0,
        compute_seconds(cut[i], version, residency.widths.full_bytes, device)};
  };
  for (size_t i = 0; i < placed.size(); ++i) {
    later.push_back(times(i, placed[i].source, !placed[i].stays));
    first.push_back(times(i, placed[i].early ? *placed[i].early : placed[i].source, true));
  }
  const std::vector<StreamedPiece> pieces(placed.begin(), placed.end());
  const std::vector<uint32_t> reaches = reaches_of(pieces);
  residency.seconds_per_token = seconds_per_token(later, reaches);
  residency.seconds_of_first = seconds_of_first(first, reaches);
}

// Seconds that a token may take while widths are raised, where no speed is asked for: nobody reads
// faster.
constexpr double kReadingTime = 0.1;

// What a pass may read besides, so that it takes no longer than the slowest token that is accepted:
// what is left of its time. At least a small piece.
double raised_per_pass(const StreamOptions& options, const Residency& residency) {
  const double seconds = options.tokens_per_second > 0
                             ? 1 / options.tokens_per_second
                             : std::max(kReadingTime, residency.seconds_per_token);
  double bytes = seconds * options.device.read_bytes_per_second;
  for (const PlacedPiece& piece : residency.pieces) {
    bytes -= piece.stays ? 0.0 : static_cast<double>(piece.source.n_bytes);
  }
  return std::max(bytes, static_cast<double>(kSmall));
}

// The pieces at the widths of the choice.
void choose(std::span<const CutPiece> cut, const StreamChoice& choice, Residency& residency) {
  const std::vector<uint32_t> later = widths_of(cut, choice.options, choice.weight_bytes);
  std::vector<uint32_t> early = later;
  if (choice.early_bytes > 0) {
    early = widths_of(cut, choice.options, choice.early_bytes);
  }
  Widths& widths = residency.widths;
  for (size_t i = 0; i < cut.size(); ++i) {
    const std::vector<PieceSource>& versions = cut[i].versions;
    PlacedPiece& piece = residency.pieces.emplace_back();
    piece.source = versions[later[i]];
    piece.first_row = cut[i].first_row;
    piece.component = component_of(*cut[i].binding);
    if (versions[early[i]].n_bytes < piece.source.n_bytes) {
      piece.early = versions[early[i]];
    }
    const PieceSource& first = piece.early ? *piece.early : piece.source;
    widths.bytes += piece.source.n_bytes;
    widths.full_bytes += versions.front().n_bytes;
    widths.loss += piece.source.loss;
    widths.early_bytes += first.n_bytes;
    widths.early_loss += first.loss;
    residency.n_in_blocks += cut[i].binding->block >= 0 ? 1 : 0;
  }
}

void list_pieces(std::span<const CutPiece> cut, Residency& residency) {
  for (size_t i = 0; i < cut.size(); ++i) {
    TensorResidence& where = residency.tensors[cut[i].binding->source];
    where.first_piece = where.n_pieces == 0 ? i : where.first_piece;
    ++where.n_pieces;
  }
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
  const std::vector<CutPiece> cut = cut_into_pieces(file, streamed, choice.options.piece_bytes);
  if (cut.empty()) {
    return;
  }
  choose(cut, choice, residency);
  list_pieces(cut, residency);
  const uint64_t kept = keep(residency.pieces, choice);
  residency.kept_share = static_cast<double>(kept) /
                         static_cast<double>(std::max<uint64_t>(1, residency.widths.bytes));
  residency.bytes_per_second = choice.options.bytes_per_second;
  lay_out(residency.pieces, choice.slots, residency);
  if (choice.options.device.is_known()) {
    predict(cut, choice.options.device, residency);
    residency.raised_per_pass = raised_per_pass(choice.options, residency);
  }
}

}  // namespace rwkv::edge
