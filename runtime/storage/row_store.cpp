#include "runtime/storage/row_store.h"

#include <algorithm>

#include "runtime/storage/rows_in_memory.h"

namespace rwkv::edge {

void RowStore::prefetch(uint64_t, uint64_t) {}

size_t RowStore::next_gather(std::span<const uint32_t> ids) const {
  return std::min(ids.size(), kMaxGather);
}

Result<size_t> RowsInMemory::gather(ThreadPool&, Traffic&, std::span<const uint32_t> ids,
                                    const std::byte** rows) {
  const size_t n = std::min(ids.size(), kMaxGather);
  for (size_t i = 0; i < n; ++i) {
    rows[i] = shape().units + ids[i] * row_bytes();
  }
  return n;
}

}  // namespace rwkv::edge
