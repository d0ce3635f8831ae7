#include "compressor/checkpoint/strided_read.h"

#include <algorithm>
#include <cstring>

namespace rwkv::press {
namespace {

constexpr uint64_t kWindowBytes = uint64_t{64} << 10;
// A box whose elements fill less than this share of the bytes they span is read run by run.
constexpr uint64_t kDensePart = 8;

struct Dim {
  uint64_t size;
  uint64_t from;  // stride in the storage, elements
  uint64_t to;    // stride in the output, elements
};

// A rectangular part of a view whose output is one contiguous range.
class Box {
 public:
  Box(uint64_t offset, uint64_t element_bytes, std::vector<Dim> dims, std::byte* out,
      const ReadStorage& read_storage)
      : offset_(offset),
        item_(element_bytes),
        dims_(std::move(dims)),
        out_(out),
        read_storage_(read_storage) {}

  Status copy();

 private:
  Status copy_inner(const Dim& inner, uint64_t from, uint64_t to);
  Status element(uint64_t from, const std::byte*& bytes);
  void choose_window();

  uint64_t offset_;
  uint64_t item_;
  std::vector<Dim> dims_;
  std::byte* out_;
  const ReadStorage& read_storage_;
  uint64_t end_ = 0;  // end of the last element, in elements of the storage
  uint64_t window_elements_ = 1;
  std::vector<std::byte> window_;
  uint64_t window_first_ = 0;
};

void Box::choose_window() {
  uint64_t elements = 1;
  uint64_t run = 1;
  end_ = 1;
  for (size_t i = dims_.size(); i > 0; --i) {
    const Dim& dim = dims_[i - 1];
    end_ += (dim.size - 1) * dim.from;
    elements *= dim.size;
    run *= dim.from == run ? dim.size : 1;
  }
  const uint64_t most = std::max<uint64_t>(1, kWindowBytes / item_);
  window_elements_ = elements >= end_ / kDensePart ? most : std::min(run, most);
}

// Points `bytes` at element `from`, reading ahead in the storage's order.
Status Box::element(uint64_t from, const std::byte*& bytes) {
  const uint64_t held = window_.size() / item_;
  if (from < window_first_ || from - window_first_ >= held) {
    const uint64_t count = std::min(window_elements_, end_ - from);
    window_.resize(static_cast<size_t>(count * item_));
    window_first_ = from;
    RWKV_TRY(read_storage_(offset_ + from * item_, window_));
  }
  bytes = window_.data() + (from - window_first_) * item_;
  return {};
}

Status Box::copy_inner(const Dim& inner, uint64_t from, uint64_t to) {
  for (uint64_t i = 0; i < inner.size; ++i) {
    const std::byte* bytes = nullptr;
    RWKV_TRY(element(from + i * inner.from, bytes));
    std::memcpy(out_ + (to + i * inner.to) * item_, bytes, static_cast<size_t>(item_));
  }
  return {};
}

Status Box::copy() {
  // Largest stride outermost, so that addresses in the storage ascend as far as possible.
  std::sort(dims_.begin(), dims_.end(), [](const Dim& a, const Dim& b) { return a.from > b.from; });
  choose_window();
  const Dim inner = dims_.empty() ? Dim{1, 1, 1} : dims_.back();
  if (!dims_.empty()) {
    dims_.pop_back();
  }
  std::vector<uint64_t> index(dims_.size(), 0);
  uint64_t from = 0;
  uint64_t to = 0;
  while (true) {
    RWKV_TRY(copy_inner(inner, from, to));
    size_t d = dims_.size();
    for (; d > 0; --d) {
      const Dim& dim = dims_[d - 1];
      if (++index[d - 1] < dim.size) {
        from += dim.from;
        to += dim.to;
        break;
      }
      index[d - 1] = 0;
      from -= (dim.size - 1) * dim.from;
      to -= (dim.size - 1) * dim.to;
    }
    if (d == 0) {
      return {};
    }
  }
}

// Elements [first, end) of the sub-tensor of `view` from dimension `d` on: a partial row, whole
// rows as one box, a partial row. The depth is that of the shape.
class RangeReader {
 public:
  RangeReader(const StridedView& view, const ReadStorage& read_storage)
      : view_(view), read_storage_(read_storage) {}

  Status read(size_t d, uint64_t offset, uint64_t first, uint64_t end, std::byte* out) const {
    if (first == end) {
      return {};
    }
    if (d == view_.shape.size()) {
      return read_rows(d, offset, 0, out);
    }
    uint64_t inner = 1;
    for (size_t i = d + 1; i < view_.shape.size(); ++i) {
      inner *= view_.shape[i];
    }
    const uint64_t stride = view_.strides[d] * view_.element_bytes;
    uint64_t row = first / inner;
    if (first % inner != 0) {
      const uint64_t stop = std::min(end, (row + 1) * inner);
      RWKV_TRY(read(d + 1, offset + row * stride, first % inner, stop - row * inner, out));
      out += (stop - first) * view_.element_bytes;
      first = stop;
      ++row;
    }
    const uint64_t rows = (end - first) / inner;
    if (rows > 0) {
      RWKV_TRY(read_rows(d, offset + row * stride, rows, out));
      out += rows * inner * view_.element_bytes;
      first += rows * inner;
      row += rows;
    }
    return first == end ? Status() : read(d + 1, offset + row * stride, 0, end - first, out);
  }

 private:
  // `rows` steps of dimension `d`, with all inner dimensions.
  Status read_rows(size_t d, uint64_t offset, uint64_t rows, std::byte* out) const {
    std::vector<Dim> dims;
    uint64_t to = 1;
    for (size_t i = view_.shape.size(); i > d; --i) {
      const uint64_t size = i - 1 == d ? rows : view_.shape[i - 1];
      if (size > 1) {
        dims.push_back({size, view_.strides[i - 1], to});
      }
      to *= size;
    }
    return Box(offset, view_.element_bytes, std::move(dims), out, read_storage_).copy();
  }

  const StridedView& view_;
  const ReadStorage& read_storage_;
};

}  // namespace

bool is_contiguous(const StridedView& view) {
  uint64_t expected = 1;
  for (size_t i = view.shape.size(); i > 0; --i) {
    if (view.shape[i - 1] == 0) {
      return true;
    }
    if (view.shape[i - 1] != 1 && view.strides[i - 1] != expected) {
      return false;
    }
    expected *= view.shape[i - 1];
  }
  return true;
}

Status read_strided(const StridedView& view, uint64_t first_byte, std::span<std::byte> out,
                    const ReadStorage& read_storage) {
  if (out.empty()) {
    return {};
  }
  if (is_contiguous(view)) {
    return read_storage(view.offset + first_byte, out);
  }
  const uint64_t item = view.element_bytes;
  const uint64_t end_byte = first_byte + out.size();
  const uint64_t first = first_byte / item;
  const uint64_t end = (end_byte + item - 1) / item;
  const RangeReader reader(view, read_storage);
  if (first * item == first_byte && end * item == end_byte) {
    return reader.read(0, view.offset, first, end, out.data());
  }
  // A range that cuts elements goes through a copy of whole ones.
  std::vector<std::byte> whole(static_cast<size_t>((end - first) * item));
  RWKV_TRY(reader.read(0, view.offset, first, end, whole.data()));
  std::memcpy(out.data(), whole.data() + (first_byte - first * item), out.size());
  return {};
}

}  // namespace rwkv::press
