#include "runtime/storage/windowed_rows.h"

#include <algorithm>

#include "runtime/storage/large_pages.h"

namespace rwkv::edge {

// Without large pages in between that contain none of the rows.
size_t WindowedRows::next_gather(std::span<const uint32_t> ids) const {
  const uint64_t end = ids[0] + RowWindow::kSpan / row_bytes();
  const uint64_t most_apart = kLargePage / row_bytes();
  const size_t most = std::min(ids.size(), kMaxGather);
  size_t n = 1;
  while (n < most && ids[n] < end && ids[n] - ids[n - 1] <= most_apart) {
    ++n;
  }
  return n;
}

Result<size_t> WindowedRows::gather(ThreadPool&, Traffic& traffic, std::span<const uint32_t> ids,
                                    const std::byte** rows) {
  const uint64_t begin = ids[0] * row_bytes();
  const size_t n = next_gather(ids);
  const uint64_t end = (ids[n - 1] + 1) * row_bytes();
  const std::byte* const first = window_.move_to(offset_ + begin, offset_ + end);
  for (size_t i = 0; i < n; ++i) {
    rows[i] = first + (ids[i] * row_bytes() - begin);
  }
  ComponentTraffic& count = traffic.at(component());
  count.misses += n;
  count.read += n * row_bytes();
  return n;
}

void WindowedRows::prefetch(uint64_t first, uint64_t last) {
  const uint64_t begin = first * row_bytes();
  const uint64_t end = std::min((last + 1) * row_bytes(), begin + RowWindow::kSpan);
  window_.prefetch(offset_ + begin, offset_ + end);
}

}  // namespace rwkv::edge
