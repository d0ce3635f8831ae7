#include "compressor/quantizers/learnt.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/quantizers/choose_codes.h"
#include "compressor/quantizers/input_moments.h"
#include "compressor/quantizers/learn_table.h"
#include "compressor/quantizers/nearest.h"
#include "compressor/quantizers/output_groups.h"
#include "compressor/quantizers/scale_search.h"
#include "compressor/quantizers/weight_tile.h"
#include "formats/codec/lut.h"

namespace rwkv::press {
namespace {

// Outputs of a tile: enough for matrix products to be fast, few enough for many threads.
constexpr int64_t kTileOutputs = 128;
constexpr int kRounds = 3;

enum class Effort : uint8_t { Weighted, FeedErrors, Refine };
// Of a table's values.
enum class Spacing : uint8_t { OfCodec, Even, Learnt };
constexpr unsigned kMostTableBits = 5;  // with more, values are even anyway
constexpr int kTableRounds = 4;

class LearntQuantizer final : public Quantizer {
 public:
  explicit LearntQuantizer(Effort effort, Spacing spacing = Spacing::OfCodec)
      : effort_(effort), spacing_(spacing) {}
  bool learns() const override { return true; }
  bool uses_groups() const override { return effort_ == Effort::Refine; }
  Result<Quantized> quantize(const QuantizerInput& input) const override;

 private:
  Status choose(const QuantizerInput& input, const LutKind& kind, LutMatrix& matrix) const;
  Status choose_by_groups(const QuantizerInput& input, const LutKind& kind,
                          LutMatrix& matrix) const;
  void learn(const QuantizerInput& input, const LutKind& kind, const at::Tensor& squares,
             LutMatrix& matrix) const;
  Effort effort_;
  Spacing spacing_;
};

// Values at equal distances, symmetric around 0, as large as a table may have them.
LutTable even_table(unsigned bits) {
  LutTable table = {};
  const int last = (1 << bits) - 1;
  for (int code = 0; code <= last; ++code) {
    table[code] = static_cast<int8_t>((2 * code - last) * (kLutHigh / last));
  }
  return table;
}

// Row scales that the weights will not outgrow.
void set_row_scales(const at::Tensor& weights, const LutCodebook& codebook, LutMatrix& matrix) {
  const float* values = weights.data_ptr<float>();
  for (uint64_t r = 0; r < matrix.rows; ++r) {
    float largest = 0;
    for (uint64_t c = 0; c < matrix.cols; ++c) {
      largest = std::max(largest, std::abs(values[r * matrix.cols + c]));
    }
    matrix.row_scales[r] = unit_for(codebook, largest);
  }
}

// Rounds to nearest and moves the values of the table, in turn.
void LearntQuantizer::learn(const QuantizerInput& input, const LutKind& kind,
                            const at::Tensor& squares, LutMatrix& matrix) const {
  const Along along = input.inputs_are_rows ? Along::Outputs : Along::Inputs;
  for (int round = 0; round < kTableRounds; ++round) {
    const LutCodebook codebook(matrix.table, kind.bits);
    set_row_scales(input.weights, codebook, matrix);
    in_tiles(input.weights.size(input.inputs_are_rows ? 1 : 0), kTileOutputs,
             [&](int64_t begin, int64_t end) {
               WeightTile tile(input.weights, matrix, codebook, along, kind.group, begin,
                               end - begin);
               round_groups(tile, squares);
               tile.store();
             });
    matrix.table = learn_table(input.weights, squares, input.inputs_are_rows, matrix, kind);
  }
}

Status LearntQuantizer::choose(const QuantizerInput& input, const LutKind& kind,
                               LutMatrix& matrix) const {
  const Along along = input.inputs_are_rows ? Along::Outputs : Along::Inputs;
  const bool by_input = along == Along::Outputs;
  const int64_t n_inputs = input.weights.size(by_input ? 0 : 1);
  const int64_t n_outputs = input.weights.size(by_input ? 1 : 0);
  RWKV_ASSIGN(const InputMoments moments, InputMoments::of(input.moments, n_inputs));
  std::optional<InputMoments::Triangle> triangle;
  if (effort_ != Effort::Weighted) {
    RWKV_ASSIGN(triangle, moments.triangle());
  }
  const at::Tensor squares = moments.damped.diagonal().contiguous();
  if (spacing_ == Spacing::Learnt && kind.bits <= kMostTableBits) {
    learn(input, kind, squares, matrix);
  }
  const LutCodebook codebook(matrix.table, kind.bits);
  set_row_scales(input.weights, codebook, matrix);
  in_tiles(n_outputs, kTileOutputs, [&](int64_t begin, int64_t end) {
    WeightTile tile(input.weights, matrix, codebook, along, kind.group, begin, end - begin);
    if (triangle) {
      feed_errors(tile, *triangle);
    } else {
      round_groups(tile, squares);
    }
    if (effort_ == Effort::Refine) {
      refine(tile, moments.damped, kRounds);
    }
    tile.store();
  });
  return {};
}

// Into row `to` of a matrix.
void copy_row(const LutMatrix& from, uint64_t row, LutMatrix& matrix, uint64_t to) {
  const auto n_groups = static_cast<int64_t>(from.scales.size() / from.rows);
  const auto cols = static_cast<int64_t>(from.cols);
  const auto source = static_cast<int64_t>(row);
  const auto target = static_cast<int64_t>(to);
  std::copy_n(from.codes.begin() + source * cols, cols, matrix.codes.begin() + target * cols);
  std::copy_n(from.scales.begin() + source * n_groups, n_groups,
              matrix.scales.begin() + target * n_groups);
  matrix.row_scales[to] = from.row_scales[row];
}

// Each group as a matrix of its own. Groups are many and small, so each has one thread.
Status LearntQuantizer::choose_by_groups(const QuantizerInput& input, const LutKind& kind,
                                         LutMatrix& matrix) const {
  std::vector<Status> results(static_cast<size_t>(input.groups->size()));
  in_tiles(input.groups->size(), 1, [&](int64_t group, int64_t) {
    const at::Tensor& rows = input.groups->rows(group);
    QuantizerInput own = input;
    own.weights = input.weights.index_select(0, rows);
    own.moments = input.groups->moments(group);
    LutMatrix part = lut_matrix(kind, static_cast<uint64_t>(rows.numel()), matrix.cols);
    results[static_cast<size_t>(group)] = choose(own, kind, part);
    for (int64_t i = 0; i < rows.numel(); ++i) {
      copy_row(part, static_cast<uint64_t>(i), matrix,
               static_cast<uint64_t>(rows.data_ptr<int64_t>()[i]));
    }
  });
  for (const Status& result : results) {
    RWKV_TRY(result);
  }
  return {};
}

Result<Quantized> LearntQuantizer::quantize(const QuantizerInput& input) const {
  const CodecTraits& codec = codec_traits(input.codec);
  if (codec.lut == nullptr || !input.moments.defined()) {
    return make_nearest_quantizer()->quantize(input);
  }
  const auto rows = static_cast<uint64_t>(input.weights.size(0));
  const auto cols = static_cast<uint64_t>(input.weights.size(1));
  // What nearest() refuses too; beyond it, squares of weights are infinite.
  constexpr float kMost = 1e18f;
  RWKV_TRY(check_finite({input.weights.data_ptr<float>(), rows * cols}, {rows, cols}, kMost,
                        codec.name));
  LutMatrix matrix = lut_matrix(*codec.lut, rows, cols);
  if (spacing_ == Spacing::Even && codec.lut->bits <= kMostTableBits) {
    matrix.table = even_table(codec.lut->bits);
  }
  const bool has_groups = uses_groups() && input.groups != nullptr && !input.inputs_are_rows;
  RWKV_TRY(has_groups ? choose_by_groups(input, *codec.lut, matrix)
                      : choose(input, *codec.lut, matrix));
  Quantized result;
  result.codes.resize(codec.encoded_bytes(rows, cols));
  RWKV_TRY(lut_pack(matrix, input.codec, result.codes));
  result.error = quantization_error(input, result.codes);
  return result;
}

}  // namespace

std::unique_ptr<Quantizer> make_weighted_quantizer() {
  return std::make_unique<LearntQuantizer>(Effort::Weighted);
}

std::unique_ptr<Quantizer> make_gptq_quantizer() {
  return std::make_unique<LearntQuantizer>(Effort::FeedErrors);
}

std::unique_ptr<Quantizer> make_gptq_uniform_quantizer() {
  return std::make_unique<LearntQuantizer>(Effort::FeedErrors, Spacing::Even);
}

std::unique_ptr<Quantizer> make_gptvq_table_quantizer() {
  return std::make_unique<LearntQuantizer>(Effort::FeedErrors, Spacing::Learnt);
}

std::unique_ptr<Quantizer> make_refined_quantizer() {
  return std::make_unique<LearntQuantizer>(Effort::Refine);
}

}  // namespace rwkv::press
