// Codecs: how the numbers of a matrix lie on disk. One file per codec, one line per codec in
// kCodecs; how the numbers are chosen is the business of quantizers, in the compressor.
//
// A matrix has `rows` x `cols`; vectors are one row. Row-wise codecs lay rows one after the other,
// each `row_bytes(cols)` long, so that any row can be read by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "formats/base/status.h"
#include "formats/container/gguf_metadata.h"

namespace rwkv {

enum class Codec : uint8_t { F32, F16, I8Row, Mm8, SignRow };

/// A matrix to encode. Which side holds the outputs of the product matters to mm8 alone: they are
/// the rows, except in matrices that are packed transposed.
enum class Outputs : uint8_t { Rows, Cols };
struct MatrixShape {
  uint64_t rows;
  uint64_t cols;
  Outputs outputs = Outputs::Rows;
};

struct CodecTraits {
  Codec codec;
  const char* name;     ///< in recipes, in metadata, in tables
  GgmlType ggml;        ///< the type under which GGUF lists the tensor
  uint32_t file_type;   ///< general.file_type when most of a model is in this codec
  bool row_wise;        ///< rows are independent; encode() may be called on slices of rows
  const char* summary;  ///< one line for people

  /// Bytes of one row of `cols` numbers; for codecs that are not row-wise the share of numbers
  /// alone, without what the whole matrix shares.
  uint64_t (*row_bytes)(uint64_t cols);
  /// Bytes of the whole matrix.
  uint64_t (*encoded_bytes)(uint64_t rows, uint64_t cols);
  /// Encodes rows * cols floats; `out` holds encoded_bytes(rows, cols). Refuses what the codec
  /// cannot hold (infinities, NaN, values beyond f16), naming row, column and value.
  Status (*encode)(std::span<const float> values, const MatrixShape& shape,
                   std::span<std::byte> out);
  /// Decodes rows [first, first + n) of a matrix of `rows` x `cols` into n * cols floats. The
  /// scalar definition of the codec: kernels are tested against it.
  void (*decode_rows)(std::span<const std::byte> bytes, uint64_t rows, uint64_t cols,
                      uint64_t first, uint64_t n, std::span<float> out);
};

std::span<const CodecTraits> codec_list();
const CodecTraits& codec_traits(Codec codec);
/// nullptr for a name that is not in the list.
const CodecTraits* find_codec(std::string_view name);

/// The first value that is not finite, as a status that names its row and column.
Status check_finite(std::span<const float> values, uint64_t cols, float limit, const char* codec);

// Layout facts that kernels share with the codecs.

/// i8_row: f32 scale, f32 offset, then cols int8, then zeros up to a multiple of 4.
/// value = scale * q + offset.
inline constexpr uint64_t kI8RowOffsetAt = 4;
inline constexpr uint64_t kI8RowHeader = 8;
uint64_t i8_row_bytes(uint64_t cols);

/// The numbers a row of i8_row can hold. A scale of 0 means that the row is its offset alone.
struct I8RowGrid {
  float scale;
  float offset;
  /// The q whose number is nearest to x.
  int8_t nearest(float x) const;
  float value(int8_t q) const { return scale * static_cast<float>(q) + offset; }
};
/// The grid that encode() uses for a row: 256 steps from its smallest to its largest number.
I8RowGrid i8_row_grid(std::span<const float> row);

/// mm8: rows f32 row scale, rows f32 row offset, cols f32 column scale, cols f32 column offset,
/// then rows * cols uint8. value = (q + 0.5) * row_scale * col_scale + row_offset + col_offset.
struct Mm8Layout {
  uint64_t row_offset;
  uint64_t col_scale;
  uint64_t col_offset;
  uint64_t numbers;
  uint64_t total;
};
Mm8Layout mm8_layout(uint64_t rows, uint64_t cols);

/// sign_row: f16 low, f16 high, then one bit per number, lowest bit first, zeros up to a multiple
/// of 4 bytes. value = bit ? high : low.
inline constexpr uint64_t kSignRowHighAt = 2;
inline constexpr uint64_t kSignRowHeader = 4;
uint64_t sign_row_bytes(uint64_t cols);

// One set per codec, in f32.cpp, f16.cpp, i8_row.cpp, mm8.cpp and sign_row.cpp.
extern const CodecTraits kCodecF32;
extern const CodecTraits kCodecF16;
extern const CodecTraits kCodecI8Row;
extern const CodecTraits kCodecMm8;
extern const CodecTraits kCodecSignRow;

}  // namespace rwkv
