#include "compressor/evaluate/sampling.h"

#include <algorithm>
#include <numeric>

#include "compressor/numerics/random.h"

namespace rwkv::press {

std::vector<uint64_t> draw(uint64_t n, const Sampling& sampling) {
  std::vector<uint64_t> indices(n);
  std::iota(indices.begin(), indices.end(), uint64_t{0});
  if (sampling.max_docs == 0 || sampling.max_docs >= n) {
    return indices;
  }
  // A random number each, the smallest are drawn.
  Random random(sampling.seed);
  std::vector<std::pair<uint64_t, uint64_t>> tickets;
  tickets.reserve(n);
  for (const uint64_t index : indices) {
    tickets.emplace_back(random.next(), index);
  }
  const auto last = tickets.begin() + static_cast<std::ptrdiff_t>(sampling.max_docs);
  std::nth_element(tickets.begin(), last, tickets.end());
  indices.clear();
  for (auto ticket = tickets.begin(); ticket != last; ++ticket) {
    indices.push_back(ticket->second);
  }
  std::sort(indices.begin(), indices.end());
  return indices;
}

}  // namespace rwkv::press
