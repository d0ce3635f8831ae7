// The operations of the forward pass that touch many values, as kernel sets: tables of functions,
// one per instruction set, `generic` (plain C++) first. The generic set defines the answers. They
// do not allocate, need no alignment, and may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "formats/codec/codec.h"
#include "runtime/kernels/elementwise.h"

namespace rwkv::edge {

/// How kernels take the inputs of a product. Products of integers are exact, so every kernel set
/// and every distribution of the work gives the same bits.
enum class InputForm : uint8_t {
  Floats,      ///< Inputs::x
  Integers,    ///< Inputs::q, step and sum, and group_sums where uses_group_sums()
  BytePlanes,  ///< the same, with q rounded by byte_inputs(), and planes if the
               ///< set uses them
  ByteGroups,  ///< Inputs::bytes, byte_steps and byte_sums
};
/// The form that a codec's kernels take.
InputForm input_form(Codec codec);
/// Whether the kernels need the sums of the inputs by groups of columns, for offsets of groups.
bool uses_group_sums(Codec codec);

/// The inputs of a product, [n_tokens][cols] floats, and their other forms.
struct Inputs {
  const float* x = nullptr;
  size_t n_tokens = 0;
  size_t cols = 0;
  const int16_t* q = nullptr;  ///< [n_tokens][padded_cols(cols)], zeros after `cols`
  /// q in the layout of byte_planes(), [n_tokens]; makes products with one-bit rows faster. May be
  /// null.
  const int8_t* planes = nullptr;
  const float* step = nullptr;        ///< [n_tokens]; x is about q * step
  const float* sum = nullptr;         ///< [n_tokens], of x
  const float* group_sums = nullptr;  ///< [n_tokens][n_group_sums(cols)], see sum_groups()
  /// [n_tokens][n_byte_groups(cols)][kByteGroup], zeros after `cols`; x is about bytes * byte_steps
  const int8_t* bytes = nullptr;
  const float* byte_steps = nullptr;   ///< [n_tokens][n_byte_groups(cols)]
  const int32_t* byte_sums = nullptr;  ///< [n_tokens][n_byte_groups(cols)], of the bytes
};

/// The largest integer of an input: 512 products with int8 still fit 32 bits. A multiple of
/// kByteInput, so that bytes hold the largest inputs too.
inline constexpr int32_t kByteInput = 256;
inline constexpr int32_t kMostInput = 127 * kByteInput;
/// Kernels read integer inputs in steps of at most this many.
inline constexpr size_t kInputPadding = 256;
inline constexpr size_t kCacheLine = 64;
/// What a kernel takes of its thread's stack at most, with several tokens; with one, 34 KB, which
/// accounts leave out.
inline constexpr size_t kKernelStack = size_t{72} << 10;
constexpr size_t padded_cols(size_t cols) {
  return (cols + kInputPadding - 1) / kInputPadding * kInputPadding;
}

/// Rounds q to multiples of kByteInput, for products with rows of bits. Eight bits of an
/// input are enough for one bit of a weight.
void byte_inputs(int16_t* q, size_t cols);
/// One-bit rows meet their inputs in blocks of 64 columns, of 8 planes of 8 bytes.
inline constexpr size_t kPlaneBlock = 64;
inline constexpr size_t kPlanes = 8;
/// Lays such q as bytes for products with rows of bits: byte j of plane k of a block is number
/// 8 j + k of it, in kByteInput. So bit k of the 8 bytes of a row, in place, meets plane k.
void byte_planes(const int16_t* q, size_t cols, int8_t* planes);
constexpr size_t byte_planes_size(size_t cols) {
  return padded_cols(cols);
}

/// Inputs as bytes have a step for this many columns.
inline constexpr size_t kByteGroup = 64;
constexpr size_t n_byte_groups(size_t cols) {
  return (cols + kByteGroup - 1) / kByteGroup;
}

/// Groups of columns are multiples of this many.
inline constexpr size_t kSumCols = 32;
constexpr size_t n_group_sums(size_t cols) {
  return (cols + kSumCols - 1) / kSumCols;
}
/// The sums of every kSumCols inputs of a token, the last of what is left.
void sum_groups(const float* x, size_t cols, float* sums);

/// Fills q, step and sum of one token: step = max |x| / kMostInput, q = x / step rounded to
/// nearest, ties to even; sum in 16 interleaved lanes.
using QuantizeInputFn = void (*)(const float* x, size_t cols, int16_t* q, float* step, float* sum);

/// Fills bytes, steps and sums of one token: in each group step = max |x| / 127, byte = x / step
/// rounded to nearest, ties to even. The step of a group with an input that is not finite is NaN.
using QuantizeBytesFn = void (*)(const float* x, size_t cols, int8_t* bytes, float* steps,
                                 int32_t* sums);

/// y[t][r] = sum_c w[r][c] x[t][c] for rows [row_begin, row_end) and every token. y has `ldy`
/// floats per token.
using MatmulFn = void (*)(const MatrixView& w, const Inputs& x, float* y, size_t ldy,
                          size_t row_begin, size_t row_end);

/// Contiguous: most rows follow the one before, which makes a stream of them.
enum class RowOrder : uint8_t { Scattered, Contiguous };

/// Rows of a matrix in a codec of single rows, each wherever it lies; row i stands for row ids[i].
struct RowsView {
  const std::byte* shared = nullptr;  ///< what all rows of the matrix share
  const std::byte* const* rows = nullptr;
  const uint32_t* ids = nullptr;
  size_t n = 0;
  Codec codec = Codec::F32;
  uint64_t cols = 0;
  RowOrder order = RowOrder::Scattered;
};

/// y[t][ids[i]] = rows[i] . x[t] for i in [begin, end), the bits that MatmulFn gives for the same
/// rows. The rest of y is not touched.
using MatmulRowsFn = void (*)(const RowsView& w, const Inputs& x, float* y, size_t ldy,
                              size_t begin, size_t end);

/// The transposed product: y[t][c] += sum_i a[t][ids[i]] rows[i][c] for columns [col_begin,
/// col_end), row by row, so that rows may come in any number of parts; a has `lda` floats per
/// token, y has `cols`. What a row's offsets add is left out of y: of a group of columns that
/// begins in the range it is added to bias[t][group], and the caller adds that to the group's
/// columns in the end.
using AddScaledRowsFn = void (*)(const RowsView& w, const float* a, size_t lda, size_t n_tokens,
                                 float* y, double* bias, size_t col_begin, size_t col_end);
/// Groups of columns that have a bias of their own.
inline size_t n_bias_groups(Codec codec, size_t cols) {
  const size_t group = codec_traits(codec).group;
  return group == 0 ? 1 : (cols + group - 1) / group;
}

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

struct KernelSet {
  const char* name;
  bool (*runs_here)();  ///< whether this processor has the instructions
  bool uses_planes;     ///< whether Inputs::planes make products faster
  QuantizeInputFn quantize_input;
  QuantizeBytesFn quantize_bytes;
  MatmulFn (*matmul)(Codec codec);
  // nullptr for codecs of panels, whose rows cannot lie apart.
  MatmulRowsFn (*matmul_rows)(Codec codec);
  AddScaledRowsFn (*add_scaled_rows)(Codec codec);
  WkvV5Fn wkv_v5;
  WkvV7Fn wkv_v7;
  const Elementwise* elementwise;
};

/// Every kernel set that was compiled in, plainest first. Not all may run here.
std::span<const KernelSet* const> kernel_list();

/// Usage for a name that is not in the list or does not run here.
Result<const KernelSet*> find_kernels(std::string_view name);

/// The set in use: the last of the list that runs here, or the one that RWKV_EDGE_KERNELS names.
/// Usage if that one cannot be had. Read once.
const Result<const KernelSet*>& kernels();

}  // namespace rwkv::edge
