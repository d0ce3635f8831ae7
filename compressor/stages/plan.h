// The plan of the packed file: every tensor with its codec. Stages change it, `rwkv-press plan`
// prints it, pack follows it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/arch/access.h"
#include "formats/arch/identify.h"
#include "formats/codec/codec.h"

namespace rwkv::press {

struct PlannedTensor {
  TensorBinding binding;
  Codec codec = Codec::F32;

  uint64_t encoded_bytes() const {
    return codec_traits(codec).encoded_bytes(binding.packed_rows(), binding.packed_cols());
  }
};

/// Narrower copies of the rows of matrices that the file will have
/// (formats/container/shard_index.h).
struct PlannedShards {
  static constexpr double kAbsent = -1;
  struct Matrix {
    std::string name;
    uint64_t piece_rows = 0;  ///< the last piece may have fewer
    /// Of the copy at each width, as its rows lie; F32: no copy, since the piece is left out or the
    /// width is not narrower.
    std::vector<Codec> codecs = {};
    std::vector<double> losses =
        {};  ///< of every piece at every width, or kAbsent: not in the file
    std::vector<uint64_t> xxh64 = {};  ///< of every piece in full, then at every width; once known
  };
  std::vector<std::string> widths;  ///< widest first
  std::vector<Matrix> matrices;     ///< in the order of use
};

struct PackPlan {
  ModelConfig config;
  std::vector<PlannedTensor> tensors;  ///< in the order of use
  uint64_t dense_fp16_bytes = 0;       ///< of the model before any stage
  RowShares shares;                    ///< that a token reads, where a stage measured it
  PlannedShards shards;                ///< beside the tensors

  uint64_t total_bytes() const;
  /// Bytes of the model in f16 before any stage, vectors included: the size that all ratios refer
  /// to.
  uint64_t fp16_bytes() const { return dense_fp16_bytes; }
  /// Number of elements to pack.
  uint64_t n_numbers() const;
  /// The tensor of that name, nullptr if there is none.
  const PlannedTensor* find(std::string_view name) const;
  /// Replaces the tensor of that name by `tensors`, each in its place in the order of use.
  void replace(std::string_view name, std::vector<PlannedTensor> tensors);
  /// Inserts each of `tensors` at its place in the order of use.
  void add(std::vector<PlannedTensor> tensors);
};

/// A tensor of narrower rows: some pieces of a matrix at one width.
struct PlannedCopy {
  std::string name;
  Codec codec{};
  uint64_t rows = 0;
  uint64_t cols = 0;
  size_t matrix = 0;  ///< of PlannedShards
  size_t width = 0;
  std::vector<uint64_t> pieces;  ///< ascending

  uint64_t encoded_bytes() const { return codec_traits(codec).encoded_bytes(rows, cols); }
};
/// All of them, in their order in the file.
std::vector<PlannedCopy> copies_of(const PackPlan& plan);
/// Their bytes.
uint64_t copy_bytes(const PackPlan& plan);

/// A run of rows of a matrix as packed.
struct RowRange {
  uint64_t first = 0;
  uint64_t n = 0;
};
/// The pieces of a matrix of `rows` rows, `piece_rows` each.
std::vector<RowRange> pieces_of(uint64_t rows, uint64_t piece_rows);

/// The model as it will be packed, for who computes with it.
std::vector<TensorBinding> bindings_of(const PackPlan& plan);

/// Everything in f32.
PackPlan plan_for(const Identified& model);

}  // namespace rwkv::press
