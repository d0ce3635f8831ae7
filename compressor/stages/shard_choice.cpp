#include "compressor/stages/shard_choice.h"

#include "compressor/stages/shard_plan.h"

namespace rwkv::press {
namespace {

// Of all pieces at a width, 0: full.
uint64_t bytes_at(const PackPlan& plan, const PlannedShards::Matrix& matrix, size_t piece,
                  size_t width) {
  const PlannedTensor& tensor = *plan.find(matrix.name);
  const auto pieces = pieces_of(tensor.binding.packed_rows(), matrix.piece_rows);
  return piece_bytes(width == 0 ? tensor.codec : matrix.codecs[width - 1], pieces[piece],
                     tensor.binding.packed_cols());
}

}  // namespace

PieceOptions options_of(const PackPlan& plan) {
  const size_t n = plan.shards.widths.size();
  PieceOptions options;
  for (const PlannedShards::Matrix& matrix : plan.shards.matrices) {
    for (size_t p = 0; p * n < matrix.losses.size(); ++p) {
      auto& own = options.of_pieces.emplace_back();
      auto& widths = options.widths.emplace_back();
      own.push_back({bytes_at(plan, matrix, p, 0), 0});
      widths.push_back(0);
      for (uint32_t w = 0; w < n; ++w) {
        if (matrix.losses[p * n + w] != PlannedShards::kAbsent) {
          own.push_back({bytes_at(plan, matrix, p, w + 1), matrix.losses[p * n + w]});
          widths.push_back(w + 1);
        }
      }
      options.full_bytes += own.front().bytes;
      options.least_bytes += own.back().bytes;
    }
  }
  return options;
}

ChosenWidths choose_within(const PackPlan& plan, const PieceOptions& options, double share) {
  const std::vector<WidthOptions> pieces(options.of_pieces.begin(), options.of_pieces.end());
  const auto budget = static_cast<uint64_t>(share * static_cast<double>(options.full_bytes));
  const std::vector<uint32_t> picks = choose_widths(pieces, budget);
  ChosenWidths chosen;
  size_t at = 0;
  for (const PlannedShards::Matrix& matrix : plan.shards.matrices) {
    auto& widths = chosen.widths.emplace_back();
    for (size_t p = 0; p * plan.shards.widths.size() < matrix.losses.size(); ++p, ++at) {
      widths.push_back(options.widths[at][picks[at]]);
      chosen.bytes += options.of_pieces[at][picks[at]].bytes;
      chosen.loss += options.of_pieces[at][picks[at]].loss;
    }
  }
  return chosen;
}

}  // namespace rwkv::press
