#include "compressor/llama_cpp/block_rounding.h"

#include <algorithm>
#include <optional>

#include "compressor/checkpoint/write.h"
#include "compressor/llama_cpp/block_layout.h"
#include "compressor/llama_cpp/block_types.h"
#include "compressor/llama_cpp/super_scales.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/quantizers/choose_codes.h"
#include "compressor/quantizers/input_moments.h"
#include "compressor/quantizers/weight_tile.h"
#include "formats/container/ggml_super_blocks.h"

namespace rwkv::press {
namespace {

constexpr int64_t kTileOutputs = 128;
constexpr int kRounds = 3;
constexpr LutTable kLevelsOfIq4Nl = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

// Values at equal distances of 1, from `first` on.
LutTable even_levels(int first, int n) {
  LutTable table = {};
  for (int code = 0; code < n; ++code) {
    table[code] = static_cast<int8_t>(first + code);
  }
  return table;
}

// What codes stand for, in units of a scale.
LutTable levels_of(DType type) {
  return type == DType::IQ4_NL ? kLevelsOfIq4Nl
         : type == DType::Q6_K ? even_levels(-32, 64)
         : type == DType::Q4_K ? even_levels(0, 16)
                               : even_levels(-8, 16);
}

bool has_super_scales(DType type) {
  return type == DType::Q6_K || type == DType::Q4_K;
}

// The weights of squared errors, as long as a row; empty for 1.
std::vector<float> weights_of(const InputStatistics& statistics, const InputMoments* moments) {
  const at::Tensor squares = moments != nullptr ? moments->damped.diagonal() : statistics.squares;
  if (!squares.defined()) {
    return {};
  }
  const at::Tensor values = squares.contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

// A matrix on its way to codes and scales.
class Rounding {
 public:
  Rounding(const at::Tensor& weights, DType type)
      : type_(type),
        kind_{type == DType::Q6_K ? uint8_t{6} : uint8_t{4}, LutLayout::Rows,
              static_cast<uint8_t>(block_type(type).group)},
        rows_(weights.size(0)),
        cols_(weights.size(1)),
        n_groups_(cols_ / kind_.group),
        target_(weights) {
    matrix_.rows = static_cast<uint64_t>(rows_);
    matrix_.cols = static_cast<uint64_t>(cols_);
    matrix_.codes.resize(static_cast<size_t>(rows_ * cols_));
    matrix_.table = levels_of(type);
    free_.steps.resize(static_cast<size_t>(rows_ * n_groups_));
  }

  Status choose(const InputStatistics& statistics);
  std::vector<std::byte> bytes() const;

 private:
  std::span<const float> values() const {
    return {target_.data_ptr<float>(), static_cast<size_t>(target_.numel())};
  }
  void choose_scales(std::span<const float> weights);

  DType type_;
  LutKind kind_;
  int64_t rows_;
  int64_t cols_;
  int64_t n_groups_;
  at::Tensor target_;
  LutMatrix matrix_;  // only its codes and its table
  FreeScales free_;
  ChosenScales super_;
};

// Before the codes. Minima are added to the weights, so that what is left is scale * code.
void Rounding::choose_scales(std::span<const float> weights) {
  super_ = choose_super_scales(type_, values(), rows_, cols_, weights);
  free_.are_given = true;
  target_ = target_.clone();
  float* target = target_.data_ptr<float>();
  for (int64_t row = 0; row < rows_; ++row) {
    for (int64_t g = 0; g < n_groups_; ++g) {
      free_.steps[row * n_groups_ + g] = super_.step(row, g);
      const float offset = super_.offset(row, g);
      for (int64_t i = 0; i < kind_.group; ++i) {
        target[row * cols_ + g * kind_.group + i] += offset;
      }
    }
  }
}

Status Rounding::choose(const InputStatistics& statistics) {
  std::optional<InputMoments> moments;
  std::optional<InputMoments::Triangle> triangle;
  if (statistics.moments.defined()) {
    RWKV_ASSIGN(moments, InputMoments::of(statistics.moments, cols_));
    RWKV_ASSIGN(triangle, moments->triangle());
  }
  std::vector<float> weights = weights_of(statistics, moments ? &*moments : nullptr);
  if (has_super_scales(type_)) {
    choose_scales(weights);
  }
  weights.resize(static_cast<size_t>(cols_), 1.0f);
  const at::Tensor squares = at::tensor(weights);
  const LutCodebook codebook(matrix_.table, kind_.bits);
  in_tiles(rows_, kTileOutputs, [&](int64_t begin, int64_t end) {
    WeightTile tile(target_, matrix_, codebook, Along::Inputs, kind_.group, begin, end - begin,
                    &free_);
    if (triangle) {
      feed_errors(tile, *triangle);
      refine(tile, moments->damped, kRounds);
    } else {
      round_groups(tile, squares);
    }
    tile.store();
  });
  return {};
}

std::vector<std::byte> Rounding::bytes() const {
  std::vector<std::byte> out;
  const std::span<const uint8_t> codes(matrix_.codes);
  const auto n_cols = static_cast<size_t>(cols_);
  const auto n_groups = static_cast<size_t>(n_groups_);
  for (size_t row = 0; row < static_cast<size_t>(rows_); ++row) {
    if (!has_super_scales(type_)) {
      append_blocks_of_4_bits({codes.subspan(row * n_cols, n_cols),
                               std::span(free_.steps).subspan(row * n_groups, n_groups)},
                              out);
      continue;
    }
    for (size_t at = 0; at < n_cols; at += kGgmlSuperBlock) {
      const size_t block = (row * n_cols + at) / kGgmlSuperBlock;
      const size_t n = super_.groups_of_unit();
      const bool is_affine = type_ == DType::Q4_K;
      const SuperScales scales = {
          super_.units[block], is_affine ? super_.min_units[block] : 0,
          std::span(super_.scales).subspan(block * n, n),
          is_affine ? std::span(super_.minima).subspan(block * n, n) : std::span<const int>()};
      const auto block_codes = codes.subspan(row * n_cols + at, kGgmlSuperBlock);
      (is_affine ? append_q4_k : append_q6_k)(block_codes, scales, out);
    }
  }
  return out;
}

Result<std::vector<std::byte>> blocks_of(const at::Tensor& weights, DType type,
                                         const InputStatistics& statistics) {
  Rounding rounding(weights, type);
  RWKV_TRY(rounding.choose(statistics));
  return rounding.bytes();
}

// A row has whole blocks, so groups of rows are rounded as matrices of their own.
Result<std::vector<std::byte>> blocks_by_groups(const at::Tensor& weights, DType type,
                                                const OutputGroups& groups) {
  std::vector<Status> results(static_cast<size_t>(groups.size()));
  const uint64_t row_bytes =
      static_cast<uint64_t>(weights.size(1)) / traits(type).block * traits(type).block_bytes;
  std::vector<std::byte> out(row_bytes * static_cast<uint64_t>(weights.size(0)));
  in_tiles(groups.size(), 1, [&](int64_t group, int64_t) {
    const at::Tensor& rows = groups.rows(group);
    auto blocks = blocks_of(weights.index_select(0, rows), type, {groups.moments(group), {}});
    results[static_cast<size_t>(group)] = blocks.status();
    for (int64_t i = 0; blocks.ok() && i < rows.numel(); ++i) {
      const auto to = static_cast<uint64_t>(rows.data_ptr<int64_t>()[i]);
      std::copy_n(blocks.value().begin() + static_cast<std::ptrdiff_t>(row_bytes) * i, row_bytes,
                  out.begin() + static_cast<std::ptrdiff_t>(row_bytes * to));
    }
  });
  for (const Status& result : results) {
    RWKV_TRY(result);
  }
  return out;
}

}  // namespace

Result<RoundedMatrix> round_to_type(const at::Tensor& weights, DType type,
                                    const InputStatistics& statistics) {
  const std::span<const float> values(weights.data_ptr<float>(),
                                      static_cast<size_t>(weights.numel()));
  const auto cols = static_cast<uint64_t>(weights.size(1));
  constexpr float kMostHalf = 65504;
  if (type != DType::F32) {
    RWKV_TRY(check_finite(values, {static_cast<uint64_t>(weights.size(0)), cols}, kMostHalf,
                          block_type(type).name));
  }
  RoundedMatrix result;
  if (traits(type).is_float) {
    encode_from_f32(type, values, result.bytes);
  } else if (type == DType::Q8_0) {
    append_q8_0(values, result.bytes);
  } else {
    RWKV_ASSIGN(result.bytes, statistics.groups != nullptr
                                  ? blocks_by_groups(weights, type, *statistics.groups)
                                  : blocks_of(weights, type, statistics));
  }
  result.values = at::empty_like(weights);
  decode_to_f32(type, result.bytes, {result.values.data_ptr<float>(), values.size()});
  return result;
}

}  // namespace rwkv::press
