#include "compressor/checkpoint/inflating_reader.h"

#include "formats/base/damaged.h"

#include <algorithm>
#include <array>
#include <atomic>

namespace rwkv::press {
namespace {

constexpr size_t kPackedBytes = size_t{64} << 10;
constexpr size_t kSkipBytes = size_t{64} << 10;
constexpr size_t kMostAtOnce = size_t{1} << 30;  // zlib counts in 32 bits

std::atomic<uint64_t> all_inflated{0};

}  // namespace

uint64_t inflated_bytes() {
  return all_inflated.load();
}

InflatingReader::InflatingReader(const InputFile& file, const ZipRecord& record)
    : file_(file),
      record_(record),
      is_ready_(inflateInit2(&stream_, -MAX_WBITS) == Z_OK),
      packed_(static_cast<size_t>(std::min<uint64_t>(kPackedBytes, record.packed_size))) {}

InflatingReader::~InflatingReader() {
  if (is_ready_) {
    inflateEnd(&stream_);
  }
}

Status InflatingReader::damaged() const {
  return rwkv::damaged("{}: record {} cannot be inflated to its {} bytes", file_.path(),
                       record_.name, record_.size);
}

Status InflatingReader::step(std::span<std::byte> out, size_t& n) {
  if (!is_ready_) {
    return failed("{}: not enough memory to inflate record {}", file_.path(), record_.name);
  }
  if (stream_.avail_in == 0 && packed_done_ < record_.packed_size) {
    const auto count =
        static_cast<size_t>(std::min<uint64_t>(packed_.size(), record_.packed_size - packed_done_));
    RWKV_TRY(file_.read_at(record_.data_offset + packed_done_, std::span(packed_).first(count)));
    packed_done_ += count;
    stream_.next_in = reinterpret_cast<Bytef*>(packed_.data());
    stream_.avail_in = static_cast<uInt>(count);
  }
  const size_t room = std::min(out.size(), kMostAtOnce);
  stream_.next_out = reinterpret_cast<Bytef*>(out.data());
  stream_.avail_out = static_cast<uInt>(room);
  const int state = inflate(&stream_, Z_NO_FLUSH);
  n = room - stream_.avail_out;
  is_at_end_ = state == Z_STREAM_END;
  // No progress (Z_BUF_ERROR) means that the packed bytes ran out before the stream's end.
  if ((state != Z_OK && !is_at_end_) || n > record_.size - done_) {
    return damaged();
  }
  crc_ = static_cast<uint32_t>(crc32_z(crc_, reinterpret_cast<const Bytef*>(out.data()), n));
  done_ += n;
  all_inflated += n;
  return {};
}

Status InflatingReader::next(std::span<std::byte> out) {
  while (!out.empty()) {
    if (is_at_end_) {
      return damaged();
    }
    size_t n = 0;
    RWKV_TRY(step(out, n));
    out = out.subspan(n);
  }
  return {};
}

Status InflatingReader::skip_to(uint64_t offset) {
  std::vector<std::byte> dropped(
      static_cast<size_t>(std::min<uint64_t>(kSkipBytes, offset - done_)));
  while (done_ < offset) {
    const auto n = static_cast<size_t>(std::min<uint64_t>(dropped.size(), offset - done_));
    RWKV_TRY(next(std::span(dropped).first(n)));
  }
  return {};
}

Status InflatingReader::finish(uint32_t& crc) {
  RWKV_TRY(skip_to(record_.size));
  // The end of the stream may need one more call, which must give nothing.
  std::array<std::byte, 1> more{};
  while (!is_at_end_) {
    size_t n = 0;
    RWKV_TRY(step(more, n));
  }
  crc = crc_;
  return {};
}

}  // namespace rwkv::press
