// Rows of a matrix that are needed a few at a time, in a codec of single rows. Callers need not
// know where the rows are: in memory (rows_in_memory.h), on storage behind a cache (cached_rows.h),
// or in a mapped file of which little may be resident (windowed_rows.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/base/status.h"
#include "formats/codec/codec.h"
#include "runtime/account/traffic.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::edge {

/// The most rows that gather() takes.
inline constexpr size_t kMaxGather = 1024;

/// How gathered rows are coded: a piece of a stream may be narrower than its matrix, or left out.
struct RowForm {
  const std::byte* shared = nullptr;
  Codec codec = Codec::F32;
  bool is_left_out = false;  ///< all values are zero, and the addresses mean nothing
};

class RowStore {
 public:
  virtual ~RowStore() = default;
  RowStore(const RowStore&) = delete;
  RowStore& operator=(const RowStore&) = delete;

  uint64_t rows() const { return shape_.rows; }
  uint64_t cols() const { return shape_.cols; }
  Codec codec() const { return shape_.codec; }
  uint64_t row_bytes() const { return row_bytes_; }
  /// The shared part of all rows; always in memory.
  const std::byte* shared() const { return shape_.shared; }
  /// The component that its bytes belong to.
  Component component() const { return component_; }

  /// Pins the first rows of `ids` (ascending) and writes their addresses; returns how many, at
  /// least one and at most kMaxGather. They stay valid until the next gather from any store of the
  /// model or release(). `traffic` counts the bytes read. Fails if storage does. Does not allocate.
  virtual Result<size_t> gather(ThreadPool& pool, Traffic& traffic, std::span<const uint32_t> ids,
                                const std::byte** rows) = 0;
  /// Of the rows that were gathered last.
  virtual RowForm form() const { return {shape_.shared, shape_.codec}; }
  /// Unpins the rows that were gathered.
  virtual void release() {}

  /// Whether prefetching rows helps.
  virtual bool prefetches() const { return false; }
  /// Prefetches rows [first, last], or as many as it has room for. From any thread, but only while
  /// none gathers from any store of the model. Rows that are pinned stay so.
  virtual void prefetch(uint64_t first, uint64_t last);
  /// How many of `ids` (ascending, at least one) the next gather() would take; asked of stores that
  /// prefetch.
  virtual size_t next_gather(std::span<const uint32_t> ids) const;

 protected:
  RowStore(const MatrixView& shape, Component component)
      : shape_(shape),
        row_bytes_(codec_traits(shape.codec).unit_bytes(shape.cols)),
        component_(component) {}
  const MatrixView& shape() const { return shape_; }

 private:
  MatrixView shape_;
  uint64_t row_bytes_;
  Component component_;
};

}  // namespace rwkv::edge
