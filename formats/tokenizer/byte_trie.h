// Longest-match search over byte strings: a double-array trie, built once, then read only. The
// World tokenizer is this search repeated; Bpe finds its added tokens with it.
//
// Each node is one 64-bit unit. A node with base b keeps its child for byte c at unit b ^ c; as no
// two nodes share a base, comparing the child's label with c is all the check that a step needs.
// (Aoe 1989, "An efficient digital search algorithm by using a double-array structure"; the
// xor form and the bounded search for free places are those of darts-clone.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

class ByteTrie {
 public:
  /// Ids lie in [0, kMaxId]. Strings longer than kMaxBytes are refused, so that a hostile
  /// vocabulary cannot make every step over a long text slow (the longest World token has 128
  /// bytes).
  static constexpr int32_t kMaxId = (1 << 24) - 1;
  static constexpr size_t kMaxBytes = 1024;
  static constexpr size_t kMaxTotalBytes = size_t{1} << 23;

  struct Entry {
    std::string_view bytes;  ///< not empty; needed during build only
    int32_t id = 0;
  };
  struct Match {
    int32_t id = -1;
    size_t length = 0;  ///< 0 if no string of the trie starts here
  };

  /// A trie without strings: matches nothing.
  ByteTrie();
  /// Two entries with the same bytes are BadInput.
  static Result<ByteTrie> build(const std::vector<Entry>& entries);

  /// The longest entry that `text` starts with.
  Match longest(std::string_view text) const {
    const uint64_t* const units = units_.data();
    uint64_t base = kRootBase;
    Match match;
    for (size_t i = 0; i < text.size(); ++i) {
      const uint64_t byte = static_cast<unsigned char>(text[i]);
      const uint64_t unit = units[base ^ byte];
      if ((unit & kLabelMask) != byte) {
        break;
      }
      base = unit >> kBaseShift;
      if (const uint64_t id_plus_one = (unit >> kIdShift) & kIdMask; id_plus_one != 0) {
        match = {static_cast<int32_t>(id_plus_one) - 1, i + 1};
      }
    }
    return match;
  }

  size_t memory_bytes() const { return units_.capacity() * sizeof(uint64_t); }

 private:
  friend class ByteTrieBuilder;
  // Unit: label (9 bits), id + 1 (25 bits), base (30 bits). Label 256 marks a free unit. Leaves
  // have base 0, and the first 256 units stay free, so that a walk ends there without a test.
  static constexpr uint64_t kLabelMask = 0x1ff;
  static constexpr uint64_t kFreeLabel = 0x100;
  static constexpr unsigned kIdShift = 9;
  static constexpr uint64_t kIdMask = 0x1ffffff;
  static constexpr unsigned kBaseShift = 34;
  static constexpr uint64_t kRootBase = 256;

  std::vector<uint64_t> units_;
};

}  // namespace rwkv
