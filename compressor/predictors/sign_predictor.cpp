#include "compressor/predictors/sign_predictor.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "formats/base/half.h"

namespace rwkv::press {
namespace {

constexpr float kLargestHalf = 65504.0f;

float round_level(double level) {
  const float limited = std::clamp(static_cast<float>(level), -kLargestHalf, kLargestHalf);
  return f16_to_f32(f32_to_f16(limited));
}

struct Levels {
  float above;
  float below;
};

// In double: the mean of equal f16 numbers is then that number exactly, whatever their count, and
// a matrix that has two levels already comes out as it went in.
Levels row_levels(const float* row, int64_t n, float* bits) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += row[i];
  }
  const double mean = sum / static_cast<double>(n);
  double sum_above = 0;
  int64_t above = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool bit = row[i] > mean;
    bits[i] = bit ? 1.0f : 0.0f;
    sum_above += bit ? row[i] : 0.0;
    above += bit;
  }
  // Not sum - sum_above: that subtraction would lose what makes equal numbers exact.
  double sum_below = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum_below += row[i] > mean ? 0.0 : row[i];
  }
  const double below_level = above == n ? mean : sum_below / static_cast<double>(n - above);
  const double above_level = above == 0 ? below_level : sum_above / static_cast<double>(above);
  return {round_level(above_level), round_level(below_level)};
}

struct TwoLevel {
  at::Tensor bits;             // [F, D] of 0 and 1 as f32, to be multiplied with
  std::vector<Levels> levels;  // [F]
};

TwoLevel cut(const at::Tensor& key) {
  const at::Tensor source = key.to(at::kFloat).contiguous();
  const int64_t rows = source.size(0);
  const int64_t columns = source.size(1);
  TwoLevel result{at::empty({rows, columns}, at::kFloat), {}};
  result.levels.reserve(static_cast<size_t>(rows));
  const float* in = source.data_ptr<float>();
  float* bits = result.bits.data_ptr<float>();
  for (int64_t j = 0; j < rows; ++j) {
    result.levels.push_back(row_levels(in + j * columns, columns, bits + j * columns));
  }
  return result;
}

at::Tensor expand(const TwoLevel& matrix) {
  at::Tensor result = at::empty_like(matrix.bits);
  const int64_t columns = result.size(1);
  const float* bits = matrix.bits.data_ptr<float>();
  float* out = result.data_ptr<float>();
  for (const Levels& levels : matrix.levels) {
    for (int64_t i = 0; i < columns; ++i) {
      *out++ = *bits++ > 0 ? levels.above : levels.below;
    }
  }
  return result;
}

// X^T X in slices: sums of float products over all tokens at once would lose too many digits for
// the nearly singular systems that inputs with a large mean make.
at::Tensor second_moment(const at::Tensor& x) {
  constexpr int64_t kSlice = 1024;
  constexpr int64_t kColumns = 128;
  at::Tensor sum = at::zeros({x.size(1), x.size(1)}, at::kDouble);
  in_tiles(x.size(1), kColumns, [&](int64_t begin, int64_t end) {
    for (int64_t first = 0; first < x.size(0); first += kSlice) {
      const at::Tensor slice = x.narrow(0, first, std::min(kSlice, x.size(0) - first));
      sum.narrow(0, begin, end - begin)
          .add_(at::mm(slice.narrow(1, begin, end - begin).t(), slice));
    }
  });
  return sum.div_(static_cast<double>(std::max<int64_t>(x.size(0), 1))).to(at::kFloat);
}

// With C = mean of x x^T and b the bits of a row, all that the row's fit needs: the moments of
// p = b x and q = (1 - b) x with each other and with k = w x.
struct RowMoments {
  double pp = 0, pq = 0, qq = 0, pk = 0, qk = 0;

  // Mean squared error of u p + v q against k, less the part that does not depend on u and v.
  double error(const Levels& levels) const {
    const double u = levels.above;
    const double v = levels.below;
    return u * u * pp + 2 * u * v * pq + v * v * qq - 2 * u * pk - 2 * v * qk;
  }
};

// Of a row w with bits b, from the row b C and the column sums of C.
RowMoments row_moments(const float* w, const float* b, const float* bc, const float* total,
                       int64_t columns) {
  RowMoments m;
  for (int64_t i = 0; i < columns; ++i) {
    const double with_p = bc[i];             // mean of x_i p
    const double with_q = total[i] - bc[i];  // mean of x_i q
    const double bit = b[i];
    m.pp += bit * with_p;
    m.pq += bit * with_q;
    m.qq += (1 - bit) * with_q;
    m.pk += w[i] * with_p;
    m.qk += w[i] * with_q;
  }
  return m;
}

Levels fit(const RowMoments& m, const Levels& plain) {
  constexpr double kRidge = 1e-6;
  const double ridge = kRidge * (m.pp + m.qq);
  const double pp = m.pp + ridge;
  const double qq = m.qq + ridge;
  const double determinant = pp * qq - m.pq * m.pq;
  if (!(determinant > kRidge * pp * qq)) {
    return plain;
  }
  const Levels fitted{round_level((m.pk * qq - m.qk * m.pq) / determinant),
                      round_level((m.qk * pp - m.pk * m.pq) / determinant)};
  return m.error(fitted) < m.error(plain) ? fitted : plain;
}

}  // namespace

at::Tensor two_level(const at::Tensor& key) {
  return expand(cut(key));
}

at::Tensor two_level_fitted(const at::Tensor& key, const at::Tensor& x) {
  constexpr int64_t kRows = 64;
  TwoLevel matrix = cut(key);
  const at::Tensor weights = key.to(at::kFloat).contiguous();
  const at::Tensor moment = second_moment(x.to(at::kFloat));
  const at::Tensor column_sums = moment.sum(0).contiguous();
  const at::Tensor bits_moment = product_in_tiles(matrix.bits, moment.t());  // [F, D]: rows b C
  const int64_t columns = weights.size(1);
  const float* total = column_sums.data_ptr<float>();
  in_tiles(weights.size(0), kRows, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t offset = j * columns;
      Levels& levels = matrix.levels[static_cast<size_t>(j)];
      levels = fit(
          row_moments(weights.data_ptr<float>() + offset, matrix.bits.data_ptr<float>() + offset,
                      bits_moment.data_ptr<float>() + offset, total, columns),
          levels);
    }
  });
  return expand(matrix);
}

}  // namespace rwkv::press
