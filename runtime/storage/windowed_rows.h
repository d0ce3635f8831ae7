// Rows of a mapped file, used in place: no more of the file than a window is resident.
#pragma once

#include "runtime/storage/row_store.h"
#include "runtime/storage/row_window.h"

namespace rwkv::edge {

class WindowedRows final : public RowStore {
 public:
  /// Rows from byte `offset` of the file; shape.shared is in memory. The window, which all stores
  /// of the model share, outlives the store.
  WindowedRows(const MatrixView& shape, Component component, RowWindow& window, uint64_t offset)
      : RowStore(shape, component), window_(window), offset_(offset) {}

  Result<size_t> gather(ThreadPool& pool, Traffic& traffic, std::span<const uint32_t> ids,
                        const std::byte** rows) override;
  void release() override { window_.release(); }
  bool prefetches() const override { return true; }
  void prefetch(uint64_t first, uint64_t last) override;
  size_t next_gather(std::span<const uint32_t> ids) const override;

 private:
  RowWindow& window_;
  uint64_t offset_;
};

}  // namespace rwkv::edge
