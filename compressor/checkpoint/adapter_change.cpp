#include "compressor/checkpoint/adapter_change.h"

#include <algorithm>

namespace rwkv::press {
namespace {

// W += scale * B A; rows are summed in double.
void add_pair(std::vector<double>& w, uint64_t n_in, const std::vector<float>& a,
              const std::vector<float>& b, double scale) {
  const uint64_t n_out = w.size() / n_in;
  const uint64_t rank = a.size() / n_in;
  for (uint64_t o = 0; o < n_out; ++o) {
    double* const row = w.data() + o * n_in;
    for (uint64_t k = 0; k < rank; ++k) {
      const double factor = scale * static_cast<double>(b[o * rank + k]);
      const float* const from = a.data() + k * n_in;
      for (uint64_t i = 0; i < n_in; ++i) {
        row[i] += factor * static_cast<double>(from[i]);
      }
    }
  }
}

// Rows of `n_columns` as columns.
std::vector<float> transposed(const std::vector<float>& matrix, uint64_t n_columns) {
  const uint64_t n_rows = matrix.size() / n_columns;
  std::vector<float> result(matrix.size());
  for (uint64_t row = 0; row < n_rows; ++row) {
    for (uint64_t column = 0; column < n_columns; ++column) {
      result[column * n_rows + row] = matrix[row * n_columns + column];
    }
  }
  return result;
}

// W[o][i] += D[i mod rank][o].
void add_rows(std::vector<double>& w, uint64_t n_in, const std::vector<float>& d) {
  const uint64_t n_out = w.size() / n_in;
  const uint64_t rank = d.size() / n_out;
  for (uint64_t o = 0; o < n_out; ++o) {
    for (uint64_t i = 0; i < n_in; ++i) {
      w[o * n_in + i] += static_cast<double>(d[i % rank * n_out + o]);
    }
  }
}

// Blocks of W, [rank, rank]: W_ab += W_ab M_b + M_b.
void multiply_blocks(std::vector<double>& w, uint64_t n_in, const std::vector<float>& m,
                     uint64_t rank) {
  const uint64_t n_out = w.size() / n_in;
  std::vector<double> before(rank);
  for (uint64_t o = 0; o < n_out; ++o) {
    for (uint64_t block = 0; block < n_in / rank; ++block) {
      double* const row = w.data() + o * n_in + block * rank;
      const float* const matrix = m.data() + block * rank * rank;
      std::copy(row, row + rank, before.begin());
      for (uint64_t j = 0; j < rank; ++j) {
        double sum = static_cast<double>(matrix[o % rank * rank + j]);
        for (uint64_t k = 0; k < rank; ++k) {
          sum += before[k] * static_cast<double>(matrix[k * rank + j]);
        }
        row[j] += sum;
      }
    }
  }
}

}  // namespace

Result<std::vector<float>> values_of(const Place& place) {
  std::vector<std::byte> bytes;
  RWKV_TRY(place.source->read(place.index, bytes));
  std::vector<float> values(place.info().n_elements());
  decode_to_f32(place.info().dtype, bytes, values);
  return values;
}

Status apply(const Change& change, uint64_t n_in, std::vector<double>& w) {
  RWKV_ASSIGN(const std::vector<float> a, values_of(change.a));
  switch (change.kind) {
    case Change::Kind::AddPair:
    case Change::Kind::SubtractPair: {
      RWKV_ASSIGN(const std::vector<float> b, values_of(change.b));
      const double scale = change.kind == Change::Kind::AddPair ? change.scale : -change.scale;
      if (change.is_transposed) {
        const uint64_t rank = change.a.info().shape[0];
        add_pair(w, n_in, transposed(b, rank), transposed(a, a.size() / rank), scale);
      } else {
        add_pair(w, n_in, a, b, scale);
      }
      return {};
    }
    case Change::Kind::AddRows:
      add_rows(w, n_in, a);
      return {};
    case Change::Kind::MultiplyBlocks:
      multiply_blocks(w, n_in, a, change.a.info().shape.back());
      return {};
  }
  return {};
}

}  // namespace rwkv::press
