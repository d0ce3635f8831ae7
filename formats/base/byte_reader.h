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
      : ByteReader(bytes, bytes.size(), origin) {}
  /// `bytes` are the first of an input of `total`.
  ByteReader(std::span<const std::byte> bytes, uint64_t total, const std::string& origin)
      : bytes_(bytes), total_(total), origin_(origin) {}

  uint64_t offset() const { return offset_; }
  /// Of the whole input.
  uint64_t left() const { return total_ - offset_; }
  /// Whether a read failed because the bytes ended before the input does.
  bool needs_more() const { return needs_more_; }
  const std::string& origin() const { return origin_; }

  /// One little-endian number; `what` names it in the message.
  template <typename T>
  Result<T> number(std::string_view what) {
    RWKV_ASSIGN(const std::span<const std::byte> found, bytes(sizeof(T), what));
    return load_le<T>(found.data());
  }

  /// `n` bytes, still owned by the input.
  Result<std::span<const std::byte>> bytes(uint64_t n, std::string_view what) {
    if (bytes_.size() - offset_ < n) {
      needs_more_ = left() >= n;
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
        "{}: expected {} bytes for {} at offset {}, found {}; the file was cut or "
        "damaged, fetch it again",
        origin_, expected, what, offset_, bytes_.size() - offset_);
  }

  std::span<const std::byte> bytes_;
  uint64_t total_;
  bool needs_more_ = false;
  const std::string& origin_;
  uint64_t offset_ = 0;
};

}  // namespace rwkv
