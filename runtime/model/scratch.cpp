#include "runtime/model/scratch.h"

#include <algorithm>
#include <numeric>

#include "formats/base/little_endian.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/pass.h"
#include "runtime/storage/row_store.h"

namespace rwkv::edge {
namespace {

// Floats per token that the most demanding time_mix (v7: fourteen vectors, four inner ones) or
// channel_mix (three vectors, the neurons, and the scores of one half of a predictor) takes from
// the arena, with room to spare; or the head, which has one token.
size_t arena_per_token(const ModelConfig& config) {
  const size_t width = std::max(config.n_embd, config.dim_att);
  const size_t time_mix = 20 * width + 10 * config.mix_lora + config.decay_lora + config.iclr_lora +
                          config.value_lora + config.gate_lora;
  const size_t channel_mix = 3 * width + (config.predictor_hidden > 0 ? 2 : 1) * config.dim_ffn;
  const size_t cluster_head = config.n_cluster > 0 ? kMaxGather : 0;
  return std::max({time_mix, channel_mix, cluster_head});
}

// The longest input of a product.
size_t widest_input_of(const ModelConfig& config, size_t max_rank) {
  return std::max({config.n_embd, config.dim_att, config.predictor_hidden, config.mix_lora,
                   config.decay_lora, config.iclr_lora, config.value_lora, config.gate_lora,
                   uint64_t{max_rank}});
}

}  // namespace

// Cuts parts from memory; without memory, it only counts.
class Scratch::Cutter {
 public:
  explicit Cutter(std::byte* memory) : memory_(memory) {}
  template <typename T>
  void operator()(std::span<T>& part, size_t n) {
    if (memory_) {
      part = {reinterpret_cast<T*>(memory_ + used_), n};
    }
    used_ += align_up(n * sizeof(T), kCacheLine);
  }
  uint64_t used() const { return used_; }

 private:
  std::byte* memory_;
  uint64_t used_ = 0;
};

void Scratch::lay(Cutter& cut, const ModelConfig& config, const ScratchSizes& sizes) {
  const size_t n = sizes.max_tokens;
  widest_input = padded_cols(widest_input_of(config, sizes.max_rank));
  cut(x, n * config.n_embd);
  cut(normed, n * config.n_embd);
  cut(out, n * config.n_embd);
  cut(arena, n * arena_per_token(config));
  cut(v_first, config.version == Version::V7 ? n * config.dim_att : 0);
  cut(marks, n * config.dim_ffn);
  cut(bias, n * n_group_sums(config.n_embd));
  cut(planes, n * byte_planes_size(widest_input));
  cut(rank_space, kMaxProducts * n * sizes.max_rank);
  cut(integers, kMaxProducts * n * widest_input);
  cut(steps, kMaxProducts * n);
  cut(sums, kMaxProducts * n);
  cut(group_sums, kMaxProducts * n * n_group_sums(widest_input));
  cut(ids, std::max<size_t>(config.dim_ffn, kMaxGather));
  cut(numbers, kMaxGather);
  cut(row_places, kMaxGather);
  cut(cluster_logs, config.n_cluster);
  cut(cluster_order, config.n_cluster);
}

Scratch::Scratch(const ModelConfig& config, const ScratchSizes& sizes)
    : memory_(bytes(config, sizes)) {
  Cutter cutter(memory_.data());
  lay(cutter, config, sizes);
  std::iota(numbers.begin(), numbers.end(), 0u);
}

uint64_t Scratch::bytes(const ModelConfig& config, const ScratchSizes& sizes) {
  Scratch none;
  Cutter counter(nullptr);
  none.lay(counter, config, sizes);
  return counter.used();
}

}  // namespace rwkv::edge
