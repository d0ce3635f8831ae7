// The bytes of every id in one piece of memory. A vocabulary of 65,536 tokens takes its bytes and
// four more per id, a fifth of the memory of 65,536 std::string objects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rwkv {

class TokenTable {
 public:
  /// Gives the next id its bytes. The sum over all ids must stay below 4 GiB.
  void add(std::string_view bytes) {
    bytes_ += bytes;
    ends_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  size_t size() const { return ends_.size(); }

  /// Empty for ids out of range. Valid while the table lives and nothing is added.
  std::string_view operator[](int32_t id) const {
    const auto i = static_cast<size_t>(id);
    if (id < 0 || i >= ends_.size()) {
      return {};
    }
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }

  size_t memory_bytes() const { return bytes_.capacity() + ends_.capacity() * sizeof(uint32_t); }

 private:
  std::string bytes_;
  std::vector<uint32_t> ends_;
};

}  // namespace rwkv
