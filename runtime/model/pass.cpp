#include "runtime/model/pass.h"

namespace rwkv::edge {

Pass::Pass(const ModelConfig& config, const KernelSet& kernels, const ScratchSizes& sizes)
    : pool(sizes.n_threads), table(kernels), scratch(config, sizes), arena(scratch.arena) {}

uint64_t Pass::bytes(const ModelConfig& config, const ScratchSizes& sizes) {
  return Scratch::bytes(config, sizes) +
         (sizes.max_tokens > 1 ? sizes.n_threads * kKernelStack : 0);
}

Result<std::span<Product>> Pass::products(size_t n) {
  if (n > scratch.products.size()) {
    return failed(
        "scratch memory has room for {} products, {} run together; this is a program error",
        scratch.products.size(), n);
  }
  return scratch.products.first(n);
}

}  // namespace rwkv::edge
