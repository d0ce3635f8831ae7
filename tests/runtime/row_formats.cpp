// What no codec of the list has yet, but the loops must carry: scales and offsets of groups of
// columns, panels of rows, parts that all rows share. Formats of this test's own go through the
// plain kernels and through the loops of the vectorised sets, over registers in plain C++.
#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/kernels/generic/add_scaled_rows.h"
#include "runtime/kernels/generic/inputs.h"
#include "runtime/kernels/generic/matmul.h"
#include "runtime/kernels/loops/add_scaled_rows.h"
#include "runtime/kernels/loops/matmul.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::edge;
using rwkv::test::noise;

namespace {

// Registers of four floats and of eight integers.
struct PlainSimd {
  struct F {
    float lanes[4];
  };
  static constexpr size_t kFloats = 4;
  static constexpr bool kPrefetches = true;
  static F zero() { return {}; }
  static F all(float x) { return {{x, x, x, x}}; }
  static F load(const float* from) { return {{from[0], from[1], from[2], from[3]}}; }
  static void store(float* to, F x) { std::copy_n(x.lanes, kFloats, to); }
  static F fma(F a, F b, F c) {
    F result;
    for (size_t i = 0; i < kFloats; ++i) {
      result.lanes[i] = std::fma(a.lanes[i], b.lanes[i], c.lanes[i]);
    }
    return result;
  }
  static float sum(F x) { return (x.lanes[0] + x.lanes[2]) + (x.lanes[1] + x.lanes[3]); }
  template <Element kElement>
  static F floats(const std::byte* from) {
    static_assert(kElement == Element::F32);
    F result;
    std::memcpy(result.lanes, from, sizeof(result.lanes));
    return result;
  }

  using Acc = int64_t;
  struct Ints {
    int32_t lanes[8];
  };
  static constexpr size_t kInts = 8;
  static constexpr size_t kLanes = 1;
  static Acc no_products() { return 0; }
  static Ints load_ints(const int16_t* from) {
    Ints result;
    std::copy_n(from, kInts, result.lanes);
    return result;
  }
  template <Element kElement>
  static Ints ints(const std::byte* from) {
    static_assert(kElement == Element::I8);
    Ints result;
    for (size_t i = 0; i < kInts; ++i) {
      result.lanes[i] = static_cast<int8_t>(from[i]);
    }
    return result;
  }
  static Acc dot(Acc sums, const Ints& w, const Ints& x) {
    for (size_t i = 0; i < kInts; ++i) {
      sums += w.lanes[i] * x.lanes[i];
    }
    return sums;
  }
  template <Element kElement>
  static int64_t total(Acc sums) {
    return sums;
  }
};

// Groups of 32 columns: f32 scale, f32 offset, 32 codes each. The scale counts in what rows share.
struct Grouped : PlainRows {
  static constexpr InputForm kInputs = InputForm::Integers;
  static constexpr Element kElement = Element::Packed;
  static constexpr size_t kGroup = 32;
  static constexpr size_t kGroupBytes = 8 + kGroup;
  static size_t unit_bytes(size_t cols) { return (cols + kGroup - 1) / kGroup * kGroupBytes; }
  static Affine affine(const RowPlace& row, size_t group) {
    const std::byte* const at = row.unit + group * kGroupBytes;
    return {float_at(at) * float_at(row.shared), float_at(at + 4)};
  }
  static void unpack(const RowPlace& row, size_t first, size_t n, int8_t* out) {
    std::memcpy(out, row.unit + first / kGroup * kGroupBytes + 8 + first % kGroup, n);
  }
};

// Panels of four rows: their scales, their offsets, then the codes of a column side by side.
struct Panelled : PlainRows {
  static constexpr InputForm kInputs = InputForm::Integers;
  static constexpr Element kElement = Element::Packed;
  static constexpr size_t kUnitRows = 4;
  static size_t unit_bytes(size_t cols) { return 32 + cols * kUnitRows; }
  static Affine affine(const RowPlace& row, size_t /*group*/) {
    return {float_at(row.unit + 4 * row.in_unit), float_at(row.unit + 16 + 4 * row.in_unit)};
  }
  static void unpack(const RowPlace& row, size_t first, size_t n, int8_t* out) {
    for (size_t i = 0; i < n; ++i) {
      out[i] = static_cast<int8_t>(row.unit[32 + (first + i) * kUnitRows + row.in_unit]);
    }
  }
};

// The same as values, which inputs in floats are multiplied with.
struct PanelledFloats : Panelled {
  static constexpr InputForm kInputs = InputForm::Floats;
  static Affine affine(const RowPlace& /*row*/, size_t /*group*/) { return {1.0f, 0.0f}; }
  static void unpack(const RowPlace& row, size_t first, size_t n, float* out) {
    const auto [scale, offset] = Panelled::affine(row, 0);
    for (size_t i = 0; i < n; ++i) {
      int8_t code;
      Panelled::unpack(row, first + i, 1, &code);
      out[i] = scale * static_cast<float>(code) + offset;
    }
  }
};

// Bytes of any kind are a matrix; only scales and offsets must be reasonable.
template <class Format>
struct Matrix {
  size_t rows, cols;
  float shared = 0.5f;
  std::vector<std::byte> bytes;

  Matrix(size_t n_rows, size_t n_cols) : rows(n_rows), cols(n_cols) {
    const size_t n_units = (rows + Format::kUnitRows - 1) / Format::kUnitRows;
    const size_t unit_bytes = Format::unit_bytes(cols);
    const size_t step =
        unit_bytes / ((cols + group_cols<Format>(cols) - 1) / group_cols<Format>(cols));
    for (size_t i = 0; i < n_units * unit_bytes; ++i) {
      bytes.push_back(static_cast<std::byte>(static_cast<int>(noise(rows, i) * 127.0f)));
    }
    for (size_t at = 0; at < bytes.size(); at += step) {
      for (size_t i = 0; i < 2 * Format::kUnitRows; ++i) {
        const float value = noise(cols, at + i) * 0.01f;
        std::memcpy(bytes.data() + at + 4 * i, &value, sizeof(value));
      }
    }
  }
  const std::byte* shared_part() const { return reinterpret_cast<const std::byte*>(&shared); }
  DenseRows<Format::kUnitRows> dense() const {
    return {shared_part(), bytes.data(), Format::unit_bytes(cols), cols};
  }
  double value(size_t row, size_t col) const {
    const RowPlace place = dense().place(row);
    RowCode<Format> code;
    Format::unpack(place, col, 1, &code);
    const Affine affine = Format::affine(place, col / group_cols<Format>(cols));
    return static_cast<double>(affine.scale) * static_cast<double>(code) +
           static_cast<double>(affine.offset);
  }
};

// Inputs in every form.
struct AllForms {
  std::vector<float> x, steps, sums, group_sums;
  std::vector<int16_t> q;
  Inputs inputs;

  AllForms(size_t n_tokens, size_t cols)
      : steps(n_tokens),
        sums(n_tokens),
        group_sums(n_tokens * n_group_sums(cols)),
        q(n_tokens * padded_cols(cols)) {
    for (size_t i = 0; i < n_tokens * cols; ++i) {
      x.push_back(noise(7, i));
    }
    for (size_t t = 0; t < n_tokens; ++t) {
      edge::generic::quantize_input(x.data() + t * cols, cols, q.data() + t * padded_cols(cols),
                                    &steps[t], &sums[t]);
      sum_groups(x.data() + t * cols, cols, group_sums.data() + t * n_group_sums(cols));
    }
    inputs = {x.data(), n_tokens,     cols,        q.data(),
              nullptr,  steps.data(), sums.data(), group_sums.data()};
  }
};

const std::vector<size_t> kLengths = {1, 31, 32, 33, 64, 77, 255, 256, 257, 700};

template <class Format>
void check_products() {
  for (const size_t cols : kLengths) {
    for (const size_t n_tokens : {1, 3, 4, 9}) {
      const size_t rows = 10;
      CAPTURE(cols, n_tokens);
      const Matrix<Format> w(rows, cols);
      const AllForms x(n_tokens, cols);
      std::vector<float> plain(n_tokens * rows);
      std::vector<float> looped(n_tokens * rows);
      edge::generic::product<Format>(w.dense(), x.inputs, plain.data(), rows, 0, rows);
      product<PlainSimd, PairStream<PlainSimd>, Format>(w.dense(), x.inputs, looped.data(), rows, 0,
                                                        rows);
      for (size_t i = 0; i < plain.size(); ++i) {
        double expected = 0;
        for (size_t c = 0; c < cols; ++c) {
          expected += w.value(i % rows, c) * static_cast<double>(x.x[i / rows * cols + c]);
        }
        const double limit = 2e-4 * (1 + std::sqrt(cols));
        REQUIRE(std::fabs(static_cast<double>(plain[i]) - expected) < limit);
        REQUIRE(std::fabs(static_cast<double>(looped[i]) - expected) < limit);
      }
      if (Format::kInputs == InputForm::Integers) {
        REQUIRE((plain == looped));
      }
    }
  }
}

}  // namespace

TEST_CASE("Products with groups and panels, in the plain kernels and the shared loops",
          "[kernels]") {
  check_products<Grouped>();
  check_products<Panelled>();
  check_products<PanelledFloats>();
}

// The transposed product with every row, in two ranges of columns; biases included.
template <class Rows>
std::vector<double> sums_of(const Matrix<Grouped>& w, const std::vector<float>& a, size_t n_tokens,
                            size_t cut, const Rows& add) {
  std::vector<const std::byte*> places;
  std::vector<uint32_t> ids;
  for (uint32_t r = 0; r < w.rows; ++r) {
    places.push_back(w.dense().at(r));
    ids.push_back(r);
  }
  const RowsView view = {w.shared_part(), places.data(), ids.data(), w.rows, Codec::F32, w.cols};
  const size_t n_groups = n_group_sums(w.cols);
  std::vector<float> y(n_tokens * w.cols);
  std::vector<double> bias(n_tokens * n_groups);
  for (const auto& [begin, end] : {std::pair{size_t{0}, cut}, std::pair{cut, w.cols}}) {
    add(view, y.data(), begin, end);
    add_offsets<Grouped>(view, a.data(), w.rows, n_tokens, bias.data(), begin, end);
  }
  std::vector<double> sums(y.begin(), y.end());
  for (size_t i = 0; i < sums.size(); ++i) {
    sums[i] += bias[i / w.cols * n_groups + i % w.cols / Grouped::kGroup];
  }
  return sums;
}

TEST_CASE("Transposed products with groups: columns in any ranges, a bias of each group",
          "[kernels]") {
  const size_t rows = 13;
  const size_t n_tokens = GENERATE(1, 5);
  const size_t middle = GENERATE(0, 7, 32, 100);
  std::vector<float> a;
  for (size_t i = 0; i < n_tokens * rows; ++i) {
    a.push_back(i % 3 == 0 ? 0.0f : noise(3, i));
  }
  for (const size_t cols : kLengths) {
    CAPTURE(cols, middle, n_tokens);
    const Matrix<Grouped> w(rows, cols);
    const size_t cut = std::min(middle, cols);
    const auto plain =
        sums_of(w, a, n_tokens, cut, [&](const RowsView& view, float* y, size_t begin, size_t end) {
          edge::generic::add_rows<Grouped>(view, a.data(), rows, n_tokens, y, begin, end);
        });
    const auto looped =
        sums_of(w, a, n_tokens, cut, [&](const RowsView& view, float* y, size_t begin, size_t end) {
          add_unpacked_rows<PlainSimd, Grouped>(view, a.data(), rows, n_tokens, y, begin, end);
        });
    for (size_t i = 0; i < plain.size(); ++i) {
      double expected = 0;
      for (size_t r = 0; r < rows; ++r) {
        expected += static_cast<double>(a[i / cols * rows + r]) * w.value(r, i % cols);
      }
      REQUIRE(std::fabs(plain[i] - expected) < 1e-4);
      REQUIRE(std::fabs(looped[i] - expected) < 1e-4);
    }
  }
}
