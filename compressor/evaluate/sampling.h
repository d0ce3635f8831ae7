// Draws some of many documents by a seed, the same ones on every machine.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace rwkv::press {

struct Sampling {
  uint64_t max_docs = 0;  ///< how many to draw; 0: all of them
  uint64_t seed = 0;
};

/// The indices of the documents drawn from `n`, ascending. Each set of that size is as likely as
/// any other. With one seed, a smaller sample is part of a larger one.
std::vector<uint64_t> draw(uint64_t n, const Sampling& sampling);

/// Keeps only the drawn ones of `items`, in their order.
template <typename T>
void keep_drawn(std::vector<T>& items, const Sampling& sampling) {
  std::vector<T> kept;
  for (const uint64_t index : draw(items.size(), sampling)) {
    kept.push_back(std::move(items[index]));
  }
  items = std::move(kept);
}

}  // namespace rwkv::press
