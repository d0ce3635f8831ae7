// A cursor over bytes from outside. Every read is checked against the bytes left, and a message
// names the file, the offset and what was expected there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "formats/base/little_endian.h"
#include "formats/base/status.h"

namespace rwkv {

class ByteReader {
 public:
  /// `origin` must outlive the reader.
  ByteReader(std::span<const std::byte> bytes, const std::string& origin)
      : bytes_(bytes), origin_(origin) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }
  const std::string& origin() const { return origin_; }

  /// One little-endian number; `what` names it in the message.
  template <typename T>
  Result<T> number(std::string_view what) {
    if (left() < sizeof(T)) {
      return cut(what, sizeof(T));
    }
    const T value = load_le<T>(bytes_.data() + offset_);
    offset_ += sizeof(T);
    return value;
  }

  /// `n` bytes, still owned by the input.
  Result<std::span<const std::byte>> bytes(uint64_t n, std::string_view what) {
    if (left() < n) {
      return cut(what, n);
    }
    const auto found = bytes_.subspan(static_cast<size_t>(offset_), static_cast<size_t>(n));
    offset_ += n;
    return found;
  }

  /// The same as text.
  Result<std::string_view> text(uint64_t n, std::string_view what) {
    RWKV_ASSIGN(const std::span<const std::byte> found, bytes(n, what));
    return std::string_view(reinterpret_cast<const char*>(found.data()), found.size());
  }

 private:
  Status cut(std::string_view what, uint64_t expected) const {
    return bad_input(
        "{}: expected {} bytes for {} at offset {}, found {}; the file is damaged or truncated",
        origin_, expected, what, offset_, left());
  }

  std::span<const std::byte> bytes_;
  const std::string& origin_;
  uint64_t offset_ = 0;
};

}  // namespace rwkv
