// The operations of the forward pass that touch many numbers, as tables of functions: one table
// per instruction set, `generic` (plain C++) first. The generic table defines the answers.
// All functions: no allocation, no alignment wanted, safe from any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "formats/codec/codec.h"

namespace rwkv::edge {

/// A matrix in a packed file: encoded bytes, not owned.
struct MatrixView {
  const std::byte* data = nullptr;
  Codec codec = Codec::F32;
  uint64_t rows = 0;
  uint64_t cols = 0;
  uint64_t total_rows = 0;  ///< of the whole tensor, when this is a range of its rows
  uint64_t first_row = 0;

  /// Rows [first, first + n) of this one.
  MatrixView row_range(uint64_t first, uint64_t n) const {
    MatrixView view = *this;
    view.rows = n;
    view.first_row = first_row + first;
    return view;
  }
};

/// y[t][r] = sum_c w[r][c] x[t][c] for rows [row_begin, row_end) and t < n_tokens.
/// x has `cols` floats per token, y has `ldy` floats per token; `scratch` has `cols` floats.
using MatmulFn = void (*)(const MatrixView& w, const float* x, size_t n_tokens, float* y,
                          size_t ldy, size_t row_begin, size_t row_end, float* scratch);

/// y[t][c] = sum_r a[t][r] w[r][c] for columns [col_begin, col_end): the product with a matrix
/// packed transposed. Rows whose a is zero for every token are not read.
/// a has `rows` floats per token, y has `cols`; `scratch` has `cols` floats.
using AccumulateFn = void (*)(const MatrixView& w, const float* a, size_t n_tokens, float* y,
                              size_t col_begin, size_t col_end, float* scratch);

/// Rows of a matrix in a row-wise codec, each wherever it lies; row i stands for row ids[i].
struct RowsView {
  const std::byte* const* rows = nullptr;
  const uint32_t* ids = nullptr;
  size_t n = 0;
  Codec codec = Codec::F32;
  uint64_t cols = 0;
};

/// y[t][ids[i]] = rows[i] . x[t] for i in [begin, end), the bits that MatmulFn gives for the same
/// rows. The rest of y is not touched.
using MatmulRowsFn = void (*)(const RowsView& w, const float* x, size_t n_tokens, float* y,
                              size_t ldy, size_t begin, size_t end, float* scratch);

/// y[t][c] += sum_i a[t][ids[i]] rows[i][c] for columns [col_begin, col_end), in the order of the
/// rows; a has `lda` floats per token, y has `cols`.
using AccumulateRowsFn = void (*)(const RowsView& w, const float* a, size_t lda, size_t n_tokens,
                                  float* y, size_t col_begin, size_t col_end, float* scratch);

/// One head of v5 and v6 over n_tokens: out_j = sum_i r_i (u_i k_i v_j + S_ij), then
/// S_ij = w_i S_ij + k_i v_j, with S [N key][N value]. r, k, v, out advance by `stride` floats per
/// token, w by `w_stride` (0 in v5, whose decay is constant).
struct WkvHeadArgs {
  const float* r;
  const float* k;
  const float* v;
  const float* w;
  const float* u;
  float* state;
  float* out;
  size_t head_size;
  size_t n_tokens;
  size_t stride;
  size_t w_stride;
};
using WkvV5Fn = void (*)(const WkvHeadArgs& args);

/// One head of v7 over n_tokens: S = S diag(w) - (S kk)(kk a)^T + v k^T, out = S r, with
/// S [N value][N key]. Here `u` of the arguments is unused; kk and kka are per token like k.
struct WkvV7Args {
  WkvHeadArgs head;
  const float* kk;
  const float* kka;
};
using WkvV7Fn = void (*)(const WkvV7Args& args);

struct KernelTable {
  const char* name;
  MatmulFn (*matmul)(Codec codec);
  AccumulateFn (*accumulate)(Codec codec);
  MatmulRowsFn (*matmul_rows)(Codec codec);
  AccumulateRowsFn (*accumulate_rows)(Codec codec);
  WkvV5Fn wkv_v5;
  WkvV7Fn wkv_v7;
};

/// The table in use on this machine.
const KernelTable& kernels();

extern const KernelTable kGenericKernels;

}  // namespace rwkv::edge
