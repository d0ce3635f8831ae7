// Rows of a matrix that are needed a few at a time: in mapped or loaded memory, read from storage
// into a cache that keeps those used last, or in the window of a mapped file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "formats/base/file.h"
#include "runtime/account/account.h"
#include "runtime/kernels/kernels.h"
#include "runtime/storage/lru.h"
#include "runtime/storage/row_window.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::edge {

/// Rows that gather() takes at most.
inline constexpr size_t kMaxGather = 1024;

/// What all stores of a model share: memory that rows pass through when no cache has room for them,
/// and the list of reads of one gather.
struct Staging {
  struct Read {
    uint64_t unit;
    std::byte* to;
  };
  explicit Staging(uint64_t n_bytes) : bytes(n_bytes), reads(kMaxGather) {}
  std::vector<std::byte> bytes;
  std::vector<Read> reads;
};

class RowStore {
 public:
  /// Rows in memory; `view` outlives the store.
  explicit RowStore(const MatrixView& view);

  /// Rows on storage, from byte `offset` of the file. Neighbours are read `rows_per_unit` together;
  /// up to `capacity` such units are kept. `account` counts what is read. `staging` must hold
  /// staging_bytes(). Both and the file outlive the store.
  struct OnStorage {
    std::shared_ptr<const InputFile> file;
    uint64_t offset = 0;
    uint64_t rows_per_unit = 1;
    uint64_t capacity = 0;
    Staging* staging = nullptr;
    ComponentBytes* account = nullptr;
  };
  RowStore(const MatrixView& shape, OnStorage storage);

  /// Rows in a mapped file, from byte `offset` of it, used where they lie. `account` counts what is
  /// used. The window, which all stores of the model share, and the account outlive the store.
  struct InWindow {
    RowWindow* window = nullptr;
    uint64_t offset = 0;
    ComponentBytes* account = nullptr;
  };
  RowStore(const MatrixView& shape, InWindow in_window);

  uint64_t rows() const { return shape_.rows; }
  uint64_t cols() const { return shape_.cols; }
  Codec codec() const { return shape_.codec; }
  uint64_t row_bytes() const { return row_bytes_; }
  bool is_in_memory() const { return shape_.units != nullptr; }
  /// What all rows share; always in memory.
  const std::byte* shared() const { return shape_.shared; }
  /// The matrix, if it is in memory.
  const MatrixView& view() const { return shape_; }

  /// Makes the first rows of `ids` (ascending) available and writes their addresses; returns how
  /// many, at least one and at most kMaxGather. They stay valid until the next gather from any
  /// store of the model. Fails if storage does. Does not allocate.
  Result<size_t> gather(ThreadPool& pool, std::span<const uint32_t> ids, const std::byte** rows);

  /// Whether prefetching rows is of use.
  bool prefetches() const { return in_window_.window != nullptr; }
  /// Prefetches rows [first, last], or as many as a stretch of the window covers. From any thread,
  /// but only while none gathers from any store of the model. Rows that were gathered stay valid.
  void prefetch(uint64_t first, uint64_t last);
  /// How many of `ids` (ascending, at least one) one stretch of the window covers.
  size_t in_one_stretch(std::span<const uint32_t> ids) const;
  /// Rows that were gathered are not used any more.
  void release();

  /// Bytes of a cache of `capacity` units, rows and bookkeeping.
  static uint64_t cache_bytes(const MatrixView& shape, uint64_t rows_per_unit, uint64_t capacity);
  /// Staging memory that a store of this shape is content with.
  static uint64_t staging_bytes(const MatrixView& shape, uint64_t rows_per_unit);

 private:
  size_t gather_in_window(std::span<const uint32_t> ids, const std::byte** rows);
  std::byte* place_of(uint64_t unit, size_t& n_staged, size_t& n_touched, size_t& n_reads);
  Status read_all(ThreadPool& pool, size_t n_reads);
  uint64_t unit_bytes(uint64_t unit) const;

  MatrixView shape_;
  uint64_t row_bytes_ = 0;
  OnStorage storage_;
  InWindow in_window_;
  uint64_t unit_size_ = 0;  ///< bytes of a whole unit
  size_t n_staging_ = 0;    ///< units that staging holds
  Lru lru_;
  std::vector<std::byte> slots_;
};

}  // namespace rwkv::edge
