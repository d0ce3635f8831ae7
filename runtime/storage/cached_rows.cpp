#include "runtime/storage/cached_rows.h"

#include <algorithm>

namespace rwkv::edge {
namespace {

// Staging memory of a model, unless a single unit is larger; for small models a share of the
// matrix.
constexpr uint64_t kStagingBytes = uint64_t{512} << 10;
constexpr uint64_t kStagingShare = 16;
// Reads handed to a thread at a time.
constexpr size_t kReadsPerThread = 8;

uint64_t units_of(const MatrixView& shape, uint64_t rows_per_unit) {
  return (shape.rows + rows_per_unit - 1) / rows_per_unit;
}

uint64_t row_bytes_of(const MatrixView& shape) {
  return codec_traits(shape.codec).unit_bytes(shape.cols);
}

}  // namespace

// The progress of one gather.
struct CachedRows::Gathering {
  ComponentTraffic& count;
  size_t n_staged = 0;   // units that went to staging
  size_t n_touched = 0;  // slots of the cache that are pinned
  size_t n_reads = 0;
};

CachedRows::CachedRows(const MatrixView& shape, Component component, const Reader& reader,
                       uint64_t offset, const CacheSize& size, Staging& staging)
    : RowStore(shape, component),
      reader_(reader),
      offset_(offset),
      rows_per_unit_(size.rows_per_unit),
      staging_(staging),
      unit_size_(row_bytes() * rows_per_unit_),
      n_staging_(staging.bytes.size() / unit_size_),
      lru_(units_of(shape, rows_per_unit_), size.capacity),
      slots_(lru_.capacity() * unit_size_) {}

uint64_t CachedRows::cache_bytes(const MatrixView& shape, const CacheSize& size) {
  return size.capacity * size.rows_per_unit * row_bytes_of(shape) +
         Lru::bytes(units_of(shape, size.rows_per_unit), size.capacity);
}

uint64_t CachedRows::staging_bytes(const MatrixView& shape, const CacheSize& size) {
  const uint64_t row_bytes = row_bytes_of(shape);
  const uint64_t unit = size.rows_per_unit * row_bytes;
  return std::max(
      unit, std::min({kStagingBytes, unit * kMaxGather, shape.rows * row_bytes / kStagingShare}));
}

// The last unit may have fewer rows.
uint64_t CachedRows::unit_bytes(uint64_t unit) const {
  return std::min(rows_per_unit_, rows() - unit * rows_per_unit_) * row_bytes();
}

// Where the unit is, or will be after the reads; nullptr if there is no room for it.
std::byte* CachedRows::place_of(uint64_t unit, Gathering& gathering) {
  const uint32_t found = lru_.find(unit);
  if (found != Lru::kNone) {
    lru_.touch(found);
    ++gathering.n_touched;
    ++gathering.count.hits;
    return slots_.data() + found * unit_size_;
  }
  std::byte* to = nullptr;
  if (gathering.n_touched < lru_.capacity()) {
    to = slots_.data() + lru_.replace(unit) * unit_size_;
    ++gathering.n_touched;
  } else if (gathering.n_staged < n_staging_) {
    to = staging_.bytes.data() + gathering.n_staged++ * unit_size_;
  } else {
    return nullptr;
  }
  ++gathering.count.misses;
  gathering.count.read += unit_bytes(unit);
  staging_.reads[gathering.n_reads++] = {offset_ + unit * unit_size_, {to, unit_bytes(unit)}};
  return to;
}

Result<size_t> CachedRows::gather(ThreadPool& pool, Traffic& traffic, std::span<const uint32_t> ids,
                                  const std::byte** rows) {
  const size_t n = std::min(ids.size(), kMaxGather);
  Gathering gathering{traffic.at(component())};
  size_t done = 0;
  uint64_t last_unit = UINT64_MAX;
  std::byte* place = nullptr;
  for (; done < n; ++done) {
    const uint64_t unit = ids[done] / rows_per_unit_;
    if (unit != last_unit) {
      std::byte* next = place_of(unit, gathering);
      if (!next) {
        break;
      }
      place = next;
      last_unit = unit;
    }
    rows[done] = place + (ids[done] - unit * rows_per_unit_) * row_bytes();
  }
  RWKV_TRY(read(pool, gathering));
  return done;
}

Status CachedRows::read(ThreadPool& pool, const Gathering& gathering) {
  const Status status =
      read_all(pool, reader_, std::span(staging_.reads).first(gathering.n_reads), kReadsPerThread);
  if (!status.ok()) {
    // Reserved slots may contain anything now.
    lru_.clear();
  }
  return status;
}

}  // namespace rwkv::edge
