// What tests of kernels share: encoded matrices, inputs in every form, products over parts of them.
#pragma once

#include <cmath>
#include <vector>

#include "runtime/kernels/kernels.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::test {

using namespace rwkv::edge;

// An encoded matrix at an odd address, with its decoded values.
struct Encoded {
  std::vector<std::byte> buffer;
  std::vector<float> decoded;
  MatrixView view;
};

inline Encoded encode(Codec codec, uint64_t rows, uint64_t cols) {
  std::vector<float> values(rows * cols);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = noise(rows * 1000 + cols, i);
  }
  const CodecTraits& traits = codec_traits(codec);
  Encoded result;
  const uint64_t n_bytes = traits.encoded_bytes(rows, cols);
  result.buffer.resize(n_bytes + 1);
  const auto bytes = std::span(result.buffer).subspan(1, n_bytes);
  REQUIRE_OK(traits.encode(values, {rows, cols, Outputs::Rows}, bytes));
  result.decoded.resize(values.size());
  result.view = MatrixView::of(bytes.data(), codec, rows, cols);
  traits.decode_rows(result.view, 0, rows, result.decoded);
  return result;
}

inline const std::byte* row_at(const MatrixView& w, uint64_t row) {
  return w.units + row * codec_traits(w.codec).unit_bytes(w.cols);
}

inline std::vector<float> random_vector(size_t n, uint64_t seed) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = noise(seed, i);
  }
  return x;
}

// Inputs and what a kernel set makes of them.
struct PreparedInputs {
  std::vector<float> x;
  std::vector<int16_t> q;
  std::vector<int8_t> planes;
  std::vector<float> steps, sums, group_sums;
  std::vector<int8_t> bytes;
  std::vector<float> byte_steps;
  std::vector<int32_t> byte_sums;
  Inputs inputs;

  PreparedInputs(const KernelSet& table, Codec codec, size_t n_tokens, size_t cols, uint64_t seed)
      : x(random_vector(n_tokens * cols, seed)),
        q(n_tokens * padded_cols(cols), int16_t{-1}),
        planes(n_tokens * byte_planes_size(cols)),
        steps(n_tokens),
        sums(n_tokens),
        group_sums(n_tokens * n_group_sums(cols)),
        bytes(n_tokens * n_byte_groups(cols) * kByteGroup, int8_t{-1}),
        byte_steps(n_tokens * n_byte_groups(cols)),
        byte_sums(n_tokens * n_byte_groups(cols)) {
    for (size_t t = 0; t < n_tokens; ++t) {
      table.quantize_input(x.data() + t * cols, cols, q.data() + t * padded_cols(cols), &steps[t],
                           &sums[t]);
      sum_groups(x.data() + t * cols, cols, group_sums.data() + t * n_group_sums(cols));
      const size_t group = t * n_byte_groups(cols);
      table.quantize_bytes(x.data() + t * cols, cols, bytes.data() + group * kByteGroup,
                           byte_steps.data() + group, byte_sums.data() + group);
      if (input_form(codec) == InputForm::BytePlanes) {
        byte_inputs(q.data() + t * padded_cols(cols), cols);
        byte_planes(q.data() + t * padded_cols(cols), cols,
                    planes.data() + t * byte_planes_size(cols));
      }
    }
    inputs = {x.data(),          n_tokens,          cols,
              q.data(),          planes.data(),     steps.data(),
              sums.data(),       group_sums.data(), bytes.data(),
              byte_steps.data(), byte_sums.data()};
  }

  // Those of one token.
  Inputs token(size_t t) const {
    Inputs one = inputs;
    one.n_tokens = 1;
    one.x += t * one.cols;
    one.q += t * padded_cols(one.cols);
    one.planes += t * byte_planes_size(one.cols);
    one.step += t;
    one.sum += t;
    one.group_sums += t * n_group_sums(one.cols);
    one.bytes += t * n_byte_groups(one.cols) * kByteGroup;
    one.byte_steps += t * n_byte_groups(one.cols);
    one.byte_sums += t * n_byte_groups(one.cols);
    return one;
  }
};

inline const KernelSet& each_table() {
  std::vector<const KernelSet*> tables;
  for (const KernelSet* table : kernel_list()) {
    if (table->runs_here()) {
      tables.push_back(table);
    }
  }
  const size_t i = GENERATE_COPY(range(size_t{0}, tables.size()));
  UNSCOPED_INFO("kernels " << tables[i]->name);
  return *tables[i];
}

inline std::vector<float> product(const KernelSet& table, const MatrixView& w, const Inputs& x) {
  std::vector<float> y(x.n_tokens * w.rows, -1.0f);
  // In two ranges of whole units, as threads would.
  const uint64_t unit = codec_traits(w.codec).unit_rows;
  const uint64_t third = w.rows / 3 / unit * unit;
  table.matmul(w.codec)(w, x, y.data(), w.rows, 0, third);
  table.matmul(w.codec)(w, x, y.data(), w.rows, third, w.rows);
  return y;
}

inline bool has_single_rows(const CodecTraits& codec) {
  return codec.unit_rows == 1;
}

// Every `step`th row of w, one by one wherever it lies; -1 for the others.
inline std::vector<float> gathered_product(const KernelSet& table, const MatrixView& w,
                                           uint32_t step, RowOrder order, const Inputs& inputs) {
  std::vector<const std::byte*> places;
  std::vector<uint32_t> ids;
  for (uint32_t r = 0; r < w.rows; r += step) {
    places.push_back(row_at(w, r));
    ids.push_back(r);
  }
  std::vector<float> y(inputs.n_tokens * w.rows, -1.0f);
  const RowsView view = {w.shared, places.data(), ids.data(), ids.size(), w.codec, w.cols, order};
  table.matmul_rows(w.codec)(view, inputs, y.data(), w.rows, 0, ids.size());
  return y;
}

// Rows of a matrix as their places, and the transposed product with them.
struct ScaledRows {
  const Encoded& w;
  std::vector<const std::byte*> places;
  std::vector<uint32_t> ids;

  void add(uint32_t row) {
    places.push_back(row_at(w.view, row));
    ids.push_back(row);
  }
  // Adds `part` rows at a time to y, in two ranges of columns.
  void add_to(std::vector<float>& y, const KernelSet& table, const std::vector<float>& a,
              size_t n_tokens, size_t part, uint64_t middle) const {
    const uint64_t cols = w.view.cols;
    const AddScaledRowsFn fn = table.add_scaled_rows(w.view.codec);
    const size_t n_groups = n_bias_groups(w.view.codec, cols);
    const size_t group = n_groups == 1 ? cols : codec_traits(w.view.codec).group;
    std::vector<double> bias(n_tokens * n_groups, 0.0);
    for (size_t i = 0; i < ids.size(); i += part) {
      const RowsView view = {w.view.shared,  places.data() + i,
                             ids.data() + i, std::min(part, ids.size() - i),
                             w.view.codec,   cols};
      fn(view, a.data(), w.view.rows, n_tokens, y.data(), bias.data(), 0, middle);
      fn(view, a.data(), w.view.rows, n_tokens, y.data(), bias.data(), middle, cols);
    }
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] += static_cast<float>(bias[i / cols * n_groups + i % cols / group]);
    }
  }
};

}  // namespace rwkv::test
