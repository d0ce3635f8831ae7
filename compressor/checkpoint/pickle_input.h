// The bytes of one or more pickles, in order, from memory or from a file of which only a window is
// in memory. No number in the bytes can make it allocate more memory than there are bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Far more than a pickle of tensors needs; a 14B checkpoint has about 200 KiB.
inline constexpr uint64_t kMaxPickleBytes = uint64_t{64} << 20;

/// The bytes a pickle is read from, in order: memory, or a file from some offset on.
class PickleInput {
 public:
  /// `where` starts every message: "model.pth: data.pkl".
  PickleInput(std::vector<std::byte> bytes, std::string where)
      : where_(std::move(where)), end_(bytes.size()), buffer_(std::move(bytes)) {}
  PickleInput(std::shared_ptr<InputFile> file, std::string where)
      : where_(std::move(where)), file_(std::move(file)), end_(file_->size()) {}

  const std::string& where() const { return where_; }
  /// Of the next byte, from the start of the memory or the file.
  uint64_t position() const { return buffer_offset_ + cursor_; }
  /// The next `n` bytes; valid until the next call.
  Result<std::span<const std::byte>> take(uint64_t n);

 private:
  Status refill(size_t n);
  std::string where_;
  std::shared_ptr<InputFile> file_;
  uint64_t end_;
  std::vector<std::byte> buffer_;
  uint64_t buffer_offset_ = 0;
  size_t cursor_ = 0;
};

}  // namespace rwkv::press
