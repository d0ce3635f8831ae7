// Byte-pair merges: the table of rules, and the merging of one piece of text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

class MergeTable {
 public:
  struct Rule {
    int32_t left = 0;
    int32_t right = 0;
    int32_t merged = 0;
    uint32_t rank = 0;  ///< lower merges first
  };
  static constexpr uint32_t kNoRank = 0xffffffff;

  MergeTable() = default;
  /// Ids must lie in [0, n_vocab); two rules for the same pair are BadInput.
  static Result<MergeTable> build(std::vector<Rule> rules, size_t n_vocab);

  /// The rule for `left` followed by `right`, or null.
  const Rule* find(int32_t left, int32_t right) const;

  size_t memory_bytes() const {
    return rules_.capacity() * sizeof(Rule) + begin_.capacity() * sizeof(uint32_t);
  }

 private:
  std::vector<Rule> rules_;      ///< sorted by (left, right)
  std::vector<uint32_t> begin_;  ///< begin_[id]: first rule whose left is id; n_vocab + 1 entries
};

/// Merges the symbols of one piece: always the pair of lowest rank, and the leftmost among equals.
/// Keeps its working memory from piece to piece. A piece of n symbols takes O(n log n).
class PieceMerger {
 public:
  explicit PieceMerger(const MergeTable& table) : table_(table) {}

  /// Appends the ids that `symbols` (fewer than 2^32) merge to.
  void merge(std::span<const int32_t> symbols, std::vector<int32_t>& ids);

 private:
  static constexpr uint32_t kEnd = 0xffffffff;
  struct Symbol {
    int32_t id;
    uint32_t previous;
    uint32_t next;  ///< kEnd for the last
    uint32_t rank;  ///< of the pair that starts here, kNoRank if it has no rule
  };
  uint32_t pair_rank(uint32_t at) const;
  void update_pair(uint32_t at);

  const MergeTable& table_;
  std::vector<Symbol> symbols_;
  std::vector<uint64_t> queue_;  ///< a heap of rank << 32 | position, lowest first
};

}  // namespace rwkv
