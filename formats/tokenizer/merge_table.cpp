// See merge_table.h.
#include "formats/tokenizer/merge_table.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace rwkv {

Result<MergeTable> MergeTable::build(std::vector<Rule> rules, size_t n_vocab) {
  std::sort(rules.begin(), rules.end(), [](const Rule& a, const Rule& b) {
    return std::pair(a.left, a.right) < std::pair(b.left, b.right);
  });
  MergeTable table;
  table.begin_.assign(n_vocab + 1, 0);
  for (size_t i = 0; i < rules.size(); ++i) {
    const Rule& rule = rules[i];
    if (i > 0 && rules[i - 1].left == rule.left && rules[i - 1].right == rule.right) {
      const auto [low, high] = std::minmax(rules[i - 1].rank, rule.rank);
      return bad_input("merges {} and {} merge the same pair", low, high);
    }
    ++table.begin_[static_cast<size_t>(rule.left) + 1];
  }
  for (size_t id = 0; id < n_vocab; ++id) {
    table.begin_[id + 1] += table.begin_[id];
  }
  table.rules_ = std::move(rules);
  return table;
}

const MergeTable::Rule* MergeTable::find(int32_t left, int32_t right) const {
  const auto id = static_cast<size_t>(left);
  const Rule* const begin = rules_.data() + begin_[id];
  const Rule* const end = rules_.data() + begin_[id + 1];
  const Rule* const found = std::lower_bound(
      begin, end, right, [](const Rule& rule, int32_t value) { return rule.right < value; });
  return found != end && found->right == right ? found : nullptr;
}

uint32_t PieceMerger::pair_rank(uint32_t at) const {
  const Symbol& symbol = symbols_[at];
  if (symbol.next == kEnd) {
    return MergeTable::kNoRank;
  }
  const MergeTable::Rule* const rule = table_.find(symbol.id, symbols_[symbol.next].id);
  return rule ? rule->rank : MergeTable::kNoRank;
}

void PieceMerger::update_pair(uint32_t at) {
  const uint32_t rank = pair_rank(at);
  symbols_[at].rank = rank;
  if (rank != MergeTable::kNoRank) {
    queue_.push_back(uint64_t{rank} << 32 | at);
    std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
  }
}

void PieceMerger::merge(std::span<const int32_t> symbols, std::vector<int32_t>& ids) {
  if (symbols.empty()) {
    return;
  }
  const auto n = static_cast<uint32_t>(symbols.size());
  symbols_.clear();
  queue_.clear();
  for (uint32_t i = 0; i < n; ++i) {
    symbols_.push_back({symbols[i], i - 1, i + 1 < n ? i + 1 : kEnd, MergeTable::kNoRank});
  }
  for (uint32_t i = 0; i < n; ++i) {
    update_pair(i);
  }
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
    const auto at = static_cast<uint32_t>(queue_.back());
    const auto rank = static_cast<uint32_t>(queue_.back() >> 32);
    queue_.pop_back();
    Symbol& left = symbols_[at];
    if (left.rank != rank) {
      continue;  // one of the two was merged with another neighbour meanwhile
    }
    Symbol& right = symbols_[left.next];
    left.id = table_.find(left.id, right.id)->merged;
    left.next = right.next;
    right.rank = MergeTable::kNoRank;
    if (left.next != kEnd) {
      symbols_[left.next].previous = at;
    }
    update_pair(at);
    if (at != 0) {
      update_pair(left.previous);
    }
  }
  for (uint32_t at = 0; at != kEnd; at = symbols_[at].next) {
    ids.push_back(symbols_[at].id);
  }
}

}  // namespace rwkv
