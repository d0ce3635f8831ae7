// Rows of a matrix that is in memory, mapped or loaded.
#pragma once

#include "runtime/storage/row_store.h"

namespace rwkv::edge {

class RowsInMemory final : public RowStore {
 public:
  /// `matrix` outlives the store.
  RowsInMemory(const MatrixView& matrix, Component component) : RowStore(matrix, component) {}

  Result<size_t> gather(ThreadPool& pool, Traffic& traffic, std::span<const uint32_t> ids,
                        const std::byte** rows) override;
};

}  // namespace rwkv::edge
