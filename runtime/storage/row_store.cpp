#include "runtime/storage/row_store.h"

#include <algorithm>
#include <atomic>

#include "runtime/storage/large_pages.h"

namespace rwkv::edge {
namespace {

// Staging memory of a model, unless a single unit is larger; of small models a share of the matrix.
constexpr uint64_t kStagingBytes = uint64_t{512} << 10;
constexpr uint64_t kStagingShare = 16;
// Reads handed to a thread at a time.
constexpr size_t kReadsPerThread = 8;

uint64_t units_of(const MatrixView& shape, uint64_t rows_per_unit) {
  return (shape.rows + rows_per_unit - 1) / rows_per_unit;
}

}  // namespace

RowStore::RowStore(const MatrixView& view)
    : shape_(view), row_bytes_(codec_traits(view.codec).unit_bytes(view.cols)) {}

RowStore::RowStore(const MatrixView& shape, OnStorage storage)
    : shape_(shape),
      row_bytes_(codec_traits(shape.codec).unit_bytes(shape.cols)),
      storage_(std::move(storage)),
      unit_size_(row_bytes_ * storage_.rows_per_unit),
      n_staging_(storage_.staging->bytes.size() / unit_size_),
      lru_(units_of(shape, storage_.rows_per_unit), storage_.capacity),
      slots_(lru_.capacity() * unit_size_) {}

RowStore::RowStore(const MatrixView& shape, InWindow in_window)
    : shape_(shape),
      row_bytes_(codec_traits(shape.codec).unit_bytes(shape.cols)),
      in_window_(in_window) {}

uint64_t RowStore::cache_bytes(const MatrixView& shape, uint64_t rows_per_unit, uint64_t capacity) {
  const uint64_t row_bytes = codec_traits(shape.codec).unit_bytes(shape.cols);
  return capacity * rows_per_unit * row_bytes +
         Lru::bytes(units_of(shape, rows_per_unit), capacity);
}

uint64_t RowStore::staging_bytes(const MatrixView& shape, uint64_t rows_per_unit) {
  const uint64_t row_bytes = codec_traits(shape.codec).unit_bytes(shape.cols);
  const uint64_t unit = rows_per_unit * row_bytes;
  return std::max(
      unit, std::min({kStagingBytes, unit * kMaxGather, shape.rows * row_bytes / kStagingShare}));
}

// The last unit may have fewer rows.
uint64_t RowStore::unit_bytes(uint64_t unit) const {
  const uint64_t first = unit * storage_.rows_per_unit;
  return std::min(storage_.rows_per_unit, shape_.rows - first) * row_bytes_;
}

// Where the unit is or will be once the reads are done; nullptr if there is no room left for it.
std::byte* RowStore::place_of(uint64_t unit, size_t& n_staged, size_t& n_touched, size_t& n_reads) {
  const uint32_t found = lru_.find(unit);
  if (found != Lru::kNone) {
    lru_.touch(found);
    ++n_touched;
    ++storage_.account->hits;
    return slots_.data() + found * unit_size_;
  }
  std::byte* to = nullptr;
  if (n_touched < lru_.capacity()) {
    to = slots_.data() + lru_.replace(unit) * unit_size_;
    ++n_touched;
  } else if (n_staged < n_staging_) {
    to = storage_.staging->bytes.data() + n_staged++ * unit_size_;
  } else {
    return nullptr;
  }
  ++storage_.account->misses;
  storage_.staging->reads[n_reads++] = {unit, to};
  return to;
}

Result<size_t> RowStore::gather(ThreadPool& pool, std::span<const uint32_t> ids,
                                const std::byte** rows) {
  const size_t n = std::min(ids.size(), kMaxGather);
  if (is_in_memory()) {
    for (size_t i = 0; i < n; ++i) {
      rows[i] = shape_.units + ids[i] * row_bytes_;
    }
    return n;
  }
  if (in_window_.window) {
    return gather_in_window(ids.first(n), rows);
  }
  size_t n_staged = 0;
  size_t n_touched = 0;
  size_t n_reads = 0;
  size_t done = 0;
  uint64_t last_unit = UINT64_MAX;
  std::byte* place = nullptr;
  for (; done < n; ++done) {
    const uint64_t unit = ids[done] / storage_.rows_per_unit;
    if (unit != last_unit) {
      std::byte* next = place_of(unit, n_staged, n_touched, n_reads);
      if (!next) {
        break;
      }
      place = next;
      last_unit = unit;
    }
    rows[done] = place + (ids[done] - unit * storage_.rows_per_unit) * row_bytes_;
  }
  RWKV_TRY(read_all(pool, n_reads));
  return done;
}

// Without large pages in between that none of the rows lies in.
size_t RowStore::in_one_stretch(std::span<const uint32_t> ids) const {
  const uint64_t end = ids[0] + RowWindow::kSpan / row_bytes_;
  const uint64_t most_apart = kLargePage / row_bytes_;
  size_t n = 1;
  while (n < ids.size() && ids[n] < end && ids[n] - ids[n - 1] <= most_apart) {
    ++n;
  }
  return n;
}

size_t RowStore::gather_in_window(std::span<const uint32_t> ids, const std::byte** rows) {
  const uint64_t begin = ids[0] * row_bytes_;
  const size_t n = in_one_stretch(ids);
  const uint64_t end = (ids[n - 1] + 1) * row_bytes_;
  const std::byte* first =
      in_window_.window->move_to(in_window_.offset + begin, in_window_.offset + end);
  for (size_t i = 0; i < n; ++i) {
    rows[i] = first + (ids[i] * row_bytes_ - begin);
  }
  in_window_.account->misses += n;
  in_window_.account->read += n * row_bytes_;
  return n;
}

void RowStore::prefetch(uint64_t first, uint64_t last) {
  const uint64_t begin = first * row_bytes_;
  const uint64_t end = std::min((last + 1) * row_bytes_, begin + RowWindow::kSpan);
  in_window_.window->prefetch(in_window_.offset + begin, in_window_.offset + end);
}

void RowStore::release() {
  if (in_window_.window) {
    in_window_.window->release();
  }
}

Status RowStore::read_all(ThreadPool& pool, size_t n_reads) {
  std::atomic<size_t> failed_at{n_reads};
  pool.run(n_reads, kReadsPerThread, [&](size_t begin, size_t end, unsigned) {
    for (size_t i = begin; i < end; ++i) {
      const auto [unit, to] = storage_.staging->reads[i];
      const Status status =
          storage_.file->read_at(storage_.offset + unit * unit_size_, {to, unit_bytes(unit)});
      if (!status.ok()) {
        failed_at.store(i);
      }
    }
  });
  for (size_t i = 0; i < n_reads; ++i) {
    storage_.account->read += unit_bytes(storage_.staging->reads[i].unit);
  }
  if (failed_at.load() == n_reads) {
    return {};
  }
  // Slots that were promised may hold anything now.
  lru_.clear();
  const auto [unit, to] = storage_.staging->reads[failed_at.load()];
  RWKV_TRY(storage_.file->read_at(storage_.offset + unit * unit_size_, {to, unit_bytes(unit)}));
  return failed("{}: reading failed, then worked; the storage is not reliable",
                storage_.file->path());
}

}  // namespace rwkv::edge
