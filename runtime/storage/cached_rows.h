// Rows that are read from storage when they are needed; the most recently used ones stay in a
// cache.
#pragma once

#include <vector>

#include "runtime/storage/lru.h"
#include "runtime/storage/reader.h"
#include "runtime/storage/row_store.h"

namespace rwkv::edge {

/// Shared by all such stores of a model: memory for rows that no cache has room for, and the list
/// of reads of one gather.
struct Staging {
  explicit Staging(uint64_t n_bytes) : bytes(n_bytes), reads(kMaxGather) {}
  std::vector<std::byte> bytes;
  std::vector<ReadRequest> reads;
};

/// Neighbours are read `rows_per_unit` together; up to `capacity` such units are kept.
struct CacheSize {
  uint64_t rows_per_unit = 1;
  uint64_t capacity = 0;
};

class CachedRows final : public RowStore {
 public:
  /// Rows from byte `offset` of the file; shape.shared is in memory. `staging` has at least
  /// staging_bytes(); it and the reader outlive the store.
  CachedRows(const MatrixView& shape, Component component, const Reader& reader, uint64_t offset,
             const CacheSize& size, Staging& staging);

  Result<size_t> gather(ThreadPool& pool, Traffic& traffic, std::span<const uint32_t> ids,
                        const std::byte** rows) override;

  /// Bytes of a cache, rows and bookkeeping.
  static uint64_t cache_bytes(const MatrixView& shape, const CacheSize& size);
  /// Staging bytes that a store of this shape needs.
  static uint64_t staging_bytes(const MatrixView& shape, const CacheSize& size);

 private:
  struct Gathering;
  std::byte* place_of(uint64_t unit, Gathering& gathering);
  Status read(ThreadPool& pool, const Gathering& gathering);
  uint64_t unit_bytes(uint64_t unit) const;

  const Reader& reader_;
  uint64_t offset_;
  uint64_t rows_per_unit_;
  Staging& staging_;
  uint64_t unit_size_;  ///< bytes of a whole unit
  size_t n_staging_;    ///< units that staging holds
  Lru lru_;
  std::vector<std::byte> slots_;
};

}  // namespace rwkv::edge
