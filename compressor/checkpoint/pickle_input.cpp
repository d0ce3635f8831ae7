#include "compressor/checkpoint/pickle_input.h"

#include <algorithm>

namespace rwkv::press {
namespace {

constexpr size_t kReadAhead = size_t{64} << 10;

}  // namespace

Result<std::span<const std::byte>> PickleInput::take(uint64_t n) {
  const uint64_t position = this->position();
  if (n > end_ - position) {
    return bad_input(
        "{}: pickle truncated at byte {}: expected {} bytes, found {}; fetch the file again",
        where_, position, n, end_ - position);
  }
  if (n > kMaxPickleBytes || position > kMaxPickleBytes - n) {
    return bad_input(
        "{}: the pickle is longer than {} bytes, which a checkpoint of tensors has no need of; "
        "save the weights alone: torch.save(model.state_dict(), FILE)",
        where_, kMaxPickleBytes);
  }
  const auto count = static_cast<size_t>(n);
  if (count > buffer_.size() - cursor_) {
    RWKV_TRY(refill(count));
  }
  const std::span<const std::byte> bytes = std::span(buffer_).subspan(cursor_, count);
  cursor_ += count;
  return bytes;
}

// Only a file gets here: take() has checked that `n` bytes exist.
Status PickleInput::refill(size_t n) {
  buffer_offset_ = position();
  cursor_ = 0;
  const uint64_t left = end_ - buffer_offset_;
  buffer_.resize(static_cast<size_t>(std::min<uint64_t>(left, std::max(n, kReadAhead))));
  return file_->read_at(buffer_offset_, buffer_);
}

}  // namespace rwkv::press
