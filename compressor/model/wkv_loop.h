// What the loops of wkv_v4.cpp, wkv_v5.cpp and wkv_v7.cpp share. Files that include it are compiled
// with OpenMP, without which LibTorch's parallel loops run on one thread.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include "compressor/model/wkv.h"

// One copy of a loop per instruction set, chosen when the program starts. Sanitizers cannot follow
// the choice.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define RWKV_PRESS_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define RWKV_PRESS_CLONES
#endif

// For what a clone calls: GCC would leave larger functions out of it, compiled for the default set.
#define RWKV_PRESS_INLINE [[gnu::always_inline]] inline

namespace rwkv::press {

// Of all published models from v5 on.
constexpr int64_t kHeadSize = 64;

// Calls `head(first, channel)` for every head of every sequence of `like` [batch * length, dim]:
// the index of the sequence's first number in its tensors, channel included, and the channel.
template <typename Head>
void for_each_head(const at::Tensor& like, const WkvShape& shape, int64_t head_size,
                   const Head& head) {
  const int64_t dim_att = like.size(1);
  const int64_t batch = like.size(0) / shape.length;
  at::parallel_for(0, batch * shape.n_head, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t channel = i % shape.n_head * head_size;
      head(i / shape.n_head * shape.length * dim_att + channel, channel);
    }
  });
}

// Sum over the rows of [batch, dim] in their order: LibTorch's sum splits its work among threads,
// and with it may group the numbers differently.
inline at::Tensor sum_sequences(const at::Tensor& rows) {
  at::Tensor sum = rows[0].clone();
  for (int64_t i = 1; i < rows.size(0); ++i) {
    sum += rows[i];
  }
  return sum;
}

}  // namespace rwkv::press
