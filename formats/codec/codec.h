// Codecs: how the values of a matrix lie on disk. The list is codec_list.h, each codec has a file
// of its own; quantizers, in the compressor, choose the values.
//
// A matrix has `rows` x `cols`; vectors are one row. Encoded, it is a part that all its rows share,
// which most codecs do not have, and then units of rows: single rows, which can be read one by one,
// or panels of several rows that lie interleaved. The rows that the last panel lacks are zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "formats/base/status.h"
#include "formats/codec/matrix_view.h"

namespace rwkv {

/// A matrix to encode. Only mm8 needs to know which side has the outputs of the product: the rows,
/// except in matrices that are packed transposed.
enum class Outputs : uint8_t { Rows, Cols };
struct MatrixShape {
  uint64_t rows;
  uint64_t cols;
  Outputs outputs = Outputs::Rows;
  uint64_t first_row = 0;  ///< of a larger matrix, for messages
};

struct LutKind;

struct CodecTraits {
  Codec codec;
  const char* name;     ///< in recipes, in metadata, in tables
  const char* summary;  ///< one line of description
  double bits;          ///< of a value, without scales and the like
  /// Whether values of a trained model change by more than a half float's rounding.
  bool is_lossy;
  bool for_predictors;  ///< only for predictors of sparse activations
  uint32_t group;       ///< columns that share a scale and an offset; 0: the row
  uint32_t unit_rows;   ///< rows that lie together: 1, or a panel

  uint64_t (*shared_bytes)(uint64_t cols);
  uint64_t (*unit_bytes)(uint64_t cols);
  /// Encodes rows * cols floats; `out` holds encoded_bytes(rows, cols). Refuses what the codec
  /// cannot hold (infinities, NaN, values beyond f16), naming row, column and value. Without a
  /// shared part, slices of whole units give the bytes that the whole gives.
  Status (*encode)(std::span<const float> values, const MatrixShape& shape,
                   std::span<std::byte> out);
  /// Decodes rows [first, first + n) into n * cols floats. The scalar definition of the codec:
  /// kernels are tested against it.
  void (*decode_rows)(const MatrixView& w, uint64_t first, uint64_t n, std::span<float> out);
  /// The largest difference between the decoded value at (row, col) and the encoded `value`.
  double (*error_bound)(const MatrixView& w, uint64_t row, uint64_t col, float value);
  /// BadInput if the shared part of a file's matrix is not one that kernels may use; null if any
  /// bytes will do.
  Status (*check_shared)(std::span<const std::byte> shared) = nullptr;
  const LutKind* lut = nullptr;  ///< bits, layout and group of a lut codec (lut.h)
  /// For panels: the codec that lays the same codes into single rows, for matrices whose rows are
  /// read one by one; such a codec names itself. Others have none: F32.
  Codec in_rows = Codec::F32;

  /// Bytes of the whole matrix.
  uint64_t encoded_bytes(uint64_t rows, uint64_t cols) const {
    return shared_bytes(cols) + (rows + unit_rows - 1) / unit_rows * unit_bytes(cols);
  }
};

std::span<const CodecTraits> codec_list();
const CodecTraits& codec_traits(Codec codec);
/// nullptr for a name that is not in the list.
const CodecTraits* find_codec(std::string_view name);

/// The first value that is not finite or beyond `limit`, as a status that names its row and column.
Status check_finite(std::span<const float> values, const MatrixShape& shape, float limit,
                    const char* codec);

/// shared_bytes of codecs without a shared part.
uint64_t nothing_shared(uint64_t cols);

// The disk half of each codec, in the file of its name.
#define RWKV_CODEC(name, file) extern const CodecTraits kCodec##name;
RWKV_CODECS(RWKV_CODEC)
#undef RWKV_CODEC

}  // namespace rwkv
