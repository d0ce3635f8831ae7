// The buffers of one evaluator, cut from one piece of memory in large pages. Each begins a cache
// line: products whose inputs do not are slower by a fifth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/arch/model_config.h"
#include "runtime/storage/large_pages.h"

namespace rwkv::edge {

/// What buffers depend on: the largest chunk of tokens and the largest factor pair's inner size.
struct ScratchSizes {
  unsigned n_threads;
  size_t max_tokens;
  size_t max_rank;
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
  std::span<float> x;        ///< residual stream, [n_embd]
  std::span<float> normed;   ///< [n_embd]
  std::span<float> out;      ///< [n_embd]
  std::span<float> arena;    ///< vectors of time_mix and channel_mix
  std::span<float> v_first;  ///< v7, [dim_att]
  std::span<uint8_t> marks;  ///< [dim_ffn]
  std::span<double> bias;    ///< [groups of n_embd columns]
  std::span<int8_t> planes;  ///< inputs of rows of bits, of the first product alone
  // Per token and product of those that run together.
  std::span<float> rank_space;   ///< [max_rank]
  std::span<int16_t> integers;   ///< inputs as integers, [widest_input]
  std::span<float> steps, sums;  ///< one
  std::span<float> group_sums;   ///< [groups of widest_input columns]
  // Others.
  std::span<uint32_t> ids;                 ///< at least dim_ffn and kMaxGather
  std::span<uint32_t> numbers;             ///< 0, 1, 2, ..., kMaxGather of them
  std::span<const std::byte*> row_places;  ///< kMaxGather
  std::span<float> cluster_logs;           ///< [n_cluster]
  std::span<uint32_t> cluster_order;       ///< [n_cluster]

  size_t widest_input = 0;  ///< padded

 private:
  class Cutter;
  Scratch() = default;
  void lay(Cutter& cutter, const ModelConfig& config, const ScratchSizes& sizes);

  std::vector<std::byte, LargePageAllocator<std::byte>> memory_;
};

}  // namespace rwkv::edge
