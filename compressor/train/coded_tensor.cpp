#include "compressor/train/coded_tensor.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/lut_rounding.h"
#include "formats/codec/lut.h"

namespace rwkv::press {
namespace {

constexpr int64_t kRowsAtATime = 16;
constexpr float kMostScale = 127.0f;
constexpr float kTableUnit = -kLutLow;
constexpr unsigned kMostTableBits = 5;  // u6 has no table

// How much of its distance to its code a weight keeps at first, and how often that is halved for
// weights that are nearer to another code, which quantizers that learn choose on purpose.
constexpr float kKeptDistance = 0.5f;
constexpr int kHalvings = 6;

// In place of a weight that stays at its first code.
constexpr float kStays = 1 << 20;

at::Tensor decoded(const CodedStart& start) {
  const auto rows = static_cast<int64_t>(start.shape.rows);
  const auto cols = static_cast<int64_t>(start.shape.cols);
  at::Tensor values = at::empty({rows, cols}, at::kFloat);
  const MatrixView w =
      MatrixView::of(start.codes.data(), start.codec, start.shape.rows, start.shape.cols);
  codec_traits(start.codec)
      .decode_rows(w, 0, start.shape.rows,
                   {values.data_ptr<float>(), static_cast<size_t>(values.numel())});
  return values;
}

// A leaf for an optimiser, and a place for its gradient.
at::Tensor moving(std::vector<Parameter>& parameters, const std::string& name, int64_t n) {
  const at::Tensor values = at::zeros({n}, at::kFloat);
  parameters.push_back({name, values});
  return values;
}

void set_gradient(const at::Tensor& parameter, const at::Tensor& gradient) {
  parameter.mutable_grad() = gradient;
}

// Codes, scales and table of a lut codec. With S0 the row's scale at the start, the value of a
// weight is S0 * row * (nearest(127 * scale) * nearest(64 * table[code])).
class LutTensor final : public CodedTensor {
 public:
  LutTensor(const CodedStart& start, TrainCodes what);
  Status round(at::Tensor& values) override;
  void take_gradient(const at::Tensor& gradient) override;
  void settle(Codes where) override;
  Result<std::vector<std::byte>> codes() const override;

 private:
  void begin_weights(const CodedStart& start);
  uint8_t code_of(int64_t i, float inverse, const LutCodebook& codebook);
  void round_row(int64_t r, const LutCodebook& codebook, float* values);
  double group_gradient(int64_t r, int64_t g, const float* gradient, float* of_weights) const;
  bool trains_weights() const { return weights_.defined() && !is_settled_; }
  float step_of(int64_t r, int64_t g) const {
    return matrix_.row_scales[r] * static_cast<float>(matrix_.scales[r * n_groups_ + g]);
  }

  Codec codec_;
  LutKind kind_;
  int64_t rows_, cols_, n_groups_;
  LutMatrix matrix_;                  // as rounded
  std::vector<uint8_t> first_codes_;  // if weights are trained
  std::vector<float> first_scales_;   // of rows
  at::Tensor weights_;                // [rows, cols]; once settled, the codes as numbers
  bool is_settled_ = false;
  at::Tensor scales_;      // [rows * n_groups], -1 to 1
  at::Tensor row_scales_;  // [rows], about 1
  at::Tensor table_;       // [2^bits], -1 to 1; undefined without a table
};

LutTensor::LutTensor(const CodedStart& start, TrainCodes what)
    : codec_(start.codec),
      kind_(*codec_traits(start.codec).lut),
      rows_(static_cast<int64_t>(start.shape.rows)),
      cols_(static_cast<int64_t>(start.shape.cols)),
      n_groups_(static_cast<int64_t>(lut_n_groups(kind_, start.shape.cols))),
      matrix_(lut_unpack(
          MatrixView::of(start.codes.data(), start.codec, start.shape.rows, start.shape.cols))),
      first_scales_(matrix_.row_scales) {
  std::vector<Parameter> all;
  scales_ = moving(all, start.name + "/scales", rows_ * n_groups_);
  row_scales_ = moving(all, start.name + "/row_scales", rows_).fill_(1.0f);
  std::transform(matrix_.scales.begin(), matrix_.scales.end(), scales_.data_ptr<float>(),
                 [](int8_t s) { return static_cast<float>(s) / kMostScale; });
  if (kind_.bits <= kMostTableBits) {
    table_ = moving(all, start.name + "/table", int64_t{1} << kind_.bits);
    std::transform(matrix_.table.begin(), matrix_.table.begin() + table_.numel(),
                   table_.data_ptr<float>(),
                   [](int8_t t) { return static_cast<float>(t) / kTableUnit; });
  }
  if (what == TrainCodes::All) {
    begin_weights(start);
    all.push_back({start.name, weights_});
  }
  if (what != TrainCodes::None) {
    parameters_ = std::move(all);
  }
}

// As near to the unrounded weights as their codes allow.
void LutTensor::begin_weights(const CodedStart& start) {
  first_codes_ = matrix_.codes;
  weights_ = decoded(start);
  if (!start.values.defined()) {
    return;
  }
  const LutCodebook codebook(matrix_.table, kind_.bits);
  float* const weights = weights_.data_ptr<float>();
  const float* const wanted = start.values.data_ptr<float>();
  at::parallel_for(0, rows_, kRowsAtATime, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * cols_; i < end * cols_; ++i) {
      const float inverse = 1.0f / step_of(i / cols_, i % cols_ / kind_.group);
      const float at_code = weights[i];
      float kept = kKeptDistance;
      for (int halved = 0; halved < kHalvings; ++halved, kept /= 2) {
        const float weight = at_code + kept * (wanted[i] - at_code);
        if (std::isfinite(inverse) && codebook.nearest(weight * inverse) == matrix_.codes[i]) {
          weights[i] = weight;
          break;
        }
      }
    }
  });
}

// The code of weight `i`. The best value of some weights is between two codes. With time they
// gather where the codes meet, where the error is largest, and flip with every batch (Nagel et al.,
// arXiv 2203.11086), so a weight that comes back to its first code stays there: out of the table's
// reach, it has no gradient any more.
uint8_t LutTensor::code_of(int64_t i, float inverse, const LutCodebook& codebook) {
  float& weight = weights_.data_ptr<float>()[i];
  if (weight > kStays / 2) {
    return first_codes_[i];
  }
  const uint8_t code = codebook.nearest(weight * inverse);
  if (code == first_codes_[i] && matrix_.codes[i] != code) {
    weight = kStays;
  }
  return code;
}

void LutTensor::round_row(int64_t r, const LutCodebook& codebook, float* values) {
  float* const scales = scales_.data_ptr<float>() + r * n_groups_;
  matrix_.row_scales[r] = first_scales_[r] * row_scales_.data_ptr<float>()[r];
  const float row_scale = matrix_.row_scales[r];
  for (int64_t g = 0; g < n_groups_; ++g) {
    scales[g] = std::clamp(scales[g], -1.0f, 1.0f);
    const int scale = static_cast<int>(std::lround(kMostScale * scales[g]));
    matrix_.scales[r * n_groups_ + g] = static_cast<int8_t>(scale);
    const float inverse = 1.0f / step_of(r, g);
    const int64_t end = std::min(cols_, (g + 1) * kind_.group);
    for (int64_t c = g * kind_.group; c < end; ++c) {
      uint8_t& code = matrix_.codes[r * cols_ + c];
      if (trains_weights() && std::isfinite(inverse)) {
        code = code_of(r * cols_ + c, inverse, codebook);
      }
      values[c] = row_scale * static_cast<float>(scale * matrix_.table[code]);
    }
  }
}

Status LutTensor::round(at::Tensor& values) {
  if (table_.defined()) {
    float* const table = table_.data_ptr<float>();
    constexpr float kMost = static_cast<float>(kLutHigh) / kTableUnit;
    for (int64_t k = 0; k < table_.numel(); ++k) {
      table[k] = std::clamp(table[k], -1.0f, kMost);
      matrix_.table[k] = static_cast<int8_t>(std::lround(kTableUnit * table[k]));
    }
  }
  const LutCodebook codebook(matrix_.table, kind_.bits);
  at::parallel_for(0, rows_, kRowsAtATime, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      round_row(r, codebook, values.data_ptr<float>() + r * cols_);
    }
  });
  return {};
}

// Of the scale of a group, without the factor S0 * row. A weight within the table moves its value
// one to one, and a scale what is left by rounding (Esser et al., arXiv 1902.08153).
double LutTensor::group_gradient(int64_t r, int64_t g, const float* gradient,
                                 float* of_weights) const {
  const auto [least, most] = std::minmax_element(
      matrix_.table.begin(), matrix_.table.begin() + (int64_t{1} << kind_.bits));
  const float inverse = 1.0f / step_of(r, g);
  const int64_t end = std::min(cols_, (g + 1) * kind_.group);
  double sum = 0;
  for (int64_t c = g * kind_.group; c < end; ++c) {
    auto moved = static_cast<float>(matrix_.table[matrix_.codes[r * cols_ + c]]);
    if (of_weights != nullptr) {
      const float at = weights_.data_ptr<float>()[r * cols_ + c] * inverse;
      const bool is_within = at >= static_cast<float>(*least) && at <= static_cast<float>(*most);
      of_weights[c] = is_within || !std::isfinite(inverse) ? gradient[c] : 0.0f;
      moved -= is_within ? at : 0.0f;
    }
    sum += static_cast<double>(gradient[c]) * static_cast<double>(moved);
  }
  return sum;
}

void LutTensor::take_gradient(const at::Tensor& gradient) {
  if (parameters_.empty()) {
    return;
  }
  const at::Tensor of_weights = trains_weights() ? at::empty_like(weights_) : at::Tensor();
  const at::Tensor of_scales = at::empty_like(scales_);
  const at::Tensor of_rows = at::empty_like(row_scales_);
  // Sums over all rows are added up piece by piece, in order: the same with any number of threads.
  const int64_t n_pieces = (rows_ + kRowsAtATime - 1) / kRowsAtATime;
  const int64_t n_table = table_.defined() ? table_.numel() : 0;
  const at::Tensor pieces = at::zeros({n_pieces, n_table}, at::kDouble);
  at::parallel_for(0, n_pieces, 1, [&](int64_t first, int64_t last) {
    for (int64_t r = first * kRowsAtATime; r < std::min(rows_, last * kRowsAtATime); ++r) {
      const float* const row = gradient.data_ptr<float>() + r * cols_;
      float* const to = trains_weights() ? of_weights.data_ptr<float>() + r * cols_ : nullptr;
      const auto row_scale = static_cast<double>(matrix_.row_scales[r]);
      double of_row = 0;
      for (int64_t g = 0; g < n_groups_; ++g) {
        const double sum = group_gradient(r, g, row, to);
        of_scales.data_ptr<float>()[r * n_groups_ + g] =
            static_cast<float>(sum * row_scale * static_cast<double>(kMostScale));
        of_row += sum * static_cast<double>(matrix_.scales[r * n_groups_ + g]);
      }
      of_rows.data_ptr<float>()[r] =
          static_cast<float>(of_row * static_cast<double>(first_scales_[r]));
      double* const of_table = pieces.data_ptr<double>() + r / kRowsAtATime * n_table;
      for (int64_t c = 0; n_table > 0 && c < cols_; ++c) {
        of_table[matrix_.codes[r * cols_ + c]] +=
            static_cast<double>(row[c] * step_of(r, c / kind_.group) * kTableUnit);
      }
    }
  });
  set_gradient(scales_, of_scales);
  set_gradient(row_scales_, of_rows);
  if (table_.defined()) {
    set_gradient(table_, pieces.sum(0).to(at::kFloat));
  }
  if (trains_weights()) {
    set_gradient(weights_, of_weights);
  }
}

void LutTensor::settle(Codes where) {
  if (!weights_.defined()) {
    return;
  }
  is_settled_ = true;
  weights_.mutable_grad().reset();
  float* const kept = weights_.data_ptr<float>();
  const auto most = static_cast<float>((1U << kind_.bits) - 1);
  for (size_t i = 0; i < matrix_.codes.size(); ++i) {
    if (where == Codes::InParameters) {
      matrix_.codes[i] = static_cast<uint8_t>(std::fmin(std::fmax(kept[i], 0.0f), most));
    }
    kept[i] = static_cast<float>(matrix_.codes[i]);
  }
}

Result<std::vector<std::byte>> LutTensor::codes() const {
  std::vector<std::byte> out(codec_traits(codec_).encoded_bytes(matrix_.rows, matrix_.cols));
  RWKV_TRY(lut_pack(matrix_, codec_, out));
  return out;
}

// Any other codec, by its own encoder.
class RoundedTensor final : public CodedTensor {
 public:
  RoundedTensor(const CodedStart& start, TrainCodes what) : now_(start) {
    if (what == TrainCodes::All) {
      weights_ = start.values.defined() ? start.values.clone() : decoded(start);
      parameters_.push_back({start.name, weights_});
    }
    now_.values = at::Tensor();
  }

  Status round(at::Tensor& values) override {
    if (weights_.defined()) {
      RWKV_TRY(encode_on_threads(
                   now_.codec, {weights_.data_ptr<float>(), static_cast<size_t>(weights_.numel())},
                   now_.shape, now_.codes)
                   .in("tensor '" + now_.name + "'"));
    }
    values.copy_(decoded(now_));
    return {};
  }
  void take_gradient(const at::Tensor& gradient) override {
    if (weights_.defined()) {
      set_gradient(weights_, gradient.clone());
    }
  }
  Result<std::vector<std::byte>> codes() const override { return now_.codes; }

 private:
  CodedStart now_;
  at::Tensor weights_;  // undefined unless they are trained
};

}  // namespace

std::unique_ptr<CodedTensor> CodedTensor::make(const CodedStart& start, TrainCodes what) {
  if (codec_traits(start.codec).lut != nullptr) {
    return std::make_unique<LutTensor>(start, what);
  }
  return std::make_unique<RoundedTensor>(start, what);
}

}  // namespace rwkv::press
