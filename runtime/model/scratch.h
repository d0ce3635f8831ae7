// The buffers of one evaluator, cut from one piece of memory in large pages. Each begins a cache
// line: products whose inputs do not are slower by a fifth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/arch/model_config.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/pass_needs.h"
#include "runtime/storage/large_pages.h"
#include "runtime/storage/matrix_parts.h"

namespace rwkv::edge {

/// y = W x for every token of the chunk; x [n_tokens][cols], y [n_tokens][rows].
struct Product {
  Matrix w;
  const float* x;
  float* y;
};
/// A product, or some rows of it, among those that run together.
struct ProductJob {
  Inputs inputs;
  bool has_group_sums;
  InputForm form;
  MatmulFn fn;
  MatrixView w;
  float* y;            ///< of its first row
  size_t ldy;          ///< floats of y per token
  size_t piece_rows;   ///< of a piece that a thread takes
  size_t first_piece;  ///< among the pieces of all
};

/// What buffers depend on, besides the sizes of the model.
struct ScratchSizes {
  unsigned n_threads;
  size_t max_tokens;  ///< of a chunk
  PassNeeds needs;
};

class Scratch {
 public:
  /// Throws std::bad_alloc where there is no memory.
  Scratch(const ModelConfig& config, const ScratchSizes& sizes);
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  /// Bytes that it takes.
  static uint64_t bytes(const ModelConfig& config, const ScratchSizes& sizes);

  // Per token of a chunk.
  std::span<float> x;         ///< residual stream, [n_embd]
  std::span<float> normed;    ///< [n_embd]
  std::span<float> out;       ///< [n_embd]
  std::span<float> arena;     ///< vectors of half a block or of the head
  std::span<float> v_first;   ///< v7, [dim_att]
  std::span<float> embedded;  ///< v7a, [n_embd]
  std::span<uint8_t> marks;   ///< [dim_ffn]
  std::span<double> bias;     ///< [groups of n_embd columns]
  // Of products that run together: their table, and per token of a chunk their inputs.
  std::span<Product> products;
  std::span<ProductJob> jobs;
  std::span<int16_t> integers;  ///< padded columns of all
  std::span<int8_t> planes;
  std::span<float> steps, sums;  ///< one each
  std::span<float> group_sums;
  std::span<int8_t> byte_inputs;
  std::span<float> byte_steps;
  std::span<int32_t> byte_sums;
  // Others.
  std::span<uint32_t> ids;                 ///< at least dim_ffn and kMaxGather
  std::span<uint32_t> numbers;             ///< 0, 1, 2, ..., kMaxGather of them
  std::span<const std::byte*> row_places;  ///< kMaxGather
  std::span<float> cluster_logs;           ///< [n_cluster]
  std::span<uint32_t> cluster_order;       ///< [n_cluster]

 private:
  class Cutter;
  Scratch() = default;
  void lay(Cutter& cutter, const ModelConfig& config, const ScratchSizes& sizes);

  std::vector<std::byte, LargePageAllocator<std::byte>> memory_;
};

}  // namespace rwkv::edge
