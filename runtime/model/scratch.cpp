#include "runtime/model/scratch.h"

#include <algorithm>
#include <numeric>

#include "formats/base/little_endian.h"
#include "runtime/storage/row_store.h"

namespace rwkv::edge {
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
  const PassNeeds& needs = sizes.needs;
  cut(x, n * config.n_embd);
  cut(normed, n * config.n_embd);
  cut(out, n * config.n_embd);
  // A clustered head, which has one token, gathers logits there.
  cut(arena, std::max(n * needs.arena, config.n_cluster > 0 ? kMaxGather : 0));
  cut(v_first, is_v7(config.version) ? n * config.dim_att : 0);
  cut(embedded, config.version == Version::V7a ? n * config.n_embd : 0);
  cut(marks, n * config.dim_ffn);
  cut(bias, n * n_group_sums(config.n_embd));
  cut(products, needs.n_products);
  cut(jobs, needs.n_products);
  cut(integers, n * needs.integers);
  cut(planes, n * needs.planes);
  cut(steps, n * needs.n_products);
  cut(sums, n * needs.n_products);
  cut(group_sums, n * needs.group_sums);
  cut(byte_inputs, n * needs.byte_groups * kByteGroup);
  cut(byte_steps, n * needs.byte_groups);
  cut(byte_sums, n * needs.byte_groups);
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
