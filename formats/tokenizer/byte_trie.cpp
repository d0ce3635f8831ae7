// See byte_trie.h for the structure. Building walks the sorted strings depth first, so that units
// that are visited together lie together.
#include "formats/tokenizer/byte_trie.h"

#include <algorithm>
#include <array>
#include <bit>

#include "formats/tokenizer/escape.h"

namespace rwkv {

namespace {

constexpr size_t kBlock = 256;
// Free places in older blocks are abandoned. 16 is darts-clone's choice: larger windows save little
// memory and cost time.
constexpr size_t kOpenBlocks = 16;

struct SortedEntry {
  uint64_t key;  ///< the first eight bytes, big endian: decides nearly every comparison
  ByteTrie::Entry entry;

  bool operator<(const SortedEntry& other) const {
    return key != other.key ? key < other.key : entry.bytes < other.entry.bytes;
  }
};

uint64_t leading_bytes(std::string_view bytes) {
  uint64_t key = 0;
  for (size_t i = 0; i < 8; ++i) {
    key = (key << 8) | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u);
  }
  return key;
}

Result<std::vector<SortedEntry>> sort_entries(const std::vector<ByteTrie::Entry>& entries) {
  std::vector<SortedEntry> sorted;
  sorted.reserve(entries.size());
  size_t total = 0;
  for (const ByteTrie::Entry& entry : entries) {
    if (entry.id < 0 || entry.id > ByteTrie::kMaxId) {
      return bad_input("token id {}: expected 0 to {}", entry.id, ByteTrie::kMaxId);
    }
    if (entry.bytes.empty() || entry.bytes.size() > ByteTrie::kMaxBytes) {
      return bad_input("token id {}: expected 1 to {} bytes, found {}", entry.id,
                       ByteTrie::kMaxBytes, entry.bytes.size());
    }
    total += entry.bytes.size();
    if (total > ByteTrie::kMaxTotalBytes) {
      return bad_input("the tokens have more than {} bytes together", ByteTrie::kMaxTotalBytes);
    }
    sorted.push_back({leading_bytes(entry.bytes), entry});
  }
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1].entry.bytes == sorted[i].entry.bytes) {
      const auto [low, high] = std::minmax(sorted[i - 1].entry.id, sorted[i].entry.id);
      return bad_input("token ids {} and {} have the same bytes \"{}\"", low, high,
                       escape_token(sorted[i].entry.bytes));
    }
  }
  return sorted;
}

}  // namespace

class ByteTrieBuilder {
 public:
  explicit ByteTrieBuilder(const std::vector<SortedEntry>& entries) : entries_(entries) {}

  std::vector<uint64_t> build() {
    add_block();
    free_[0] = free_[1] = free_[2] = free_[3] = 0;  // block 0 is where leaves lead
    add_block();
    // The root owns its block: a search visits one of its 256 places for every token of a text.
    used_base_[ByteTrie::kRootBase] = true;
    add_children({0, entries_.size(), 0, 0});
    while (!pending_.empty()) {
      const Node node = pending_.back();
      pending_.pop_back();
      add_children(node);
    }
    return std::move(units_);
  }

 private:
  /// The entries [begin, end) that share their first `depth` bytes, and their unit.
  struct Node {
    size_t begin;
    size_t end;
    size_t depth;
    size_t unit;  ///< 0 for the root, which has no unit of its own
  };

  void add_block() {
    units_.resize(units_.size() + kBlock, ByteTrie::kFreeLabel);
    used_base_.resize(units_.size(), false);
    free_.resize(units_.size() / 64, ~uint64_t{0});
    const size_t n_blocks = units_.size() / kBlock;
    if (n_blocks > kOpenBlocks) {
      first_open_ = std::max(first_open_, (n_blocks - kOpenBlocks) * (kBlock / 64));
    }
  }

  void add_children(Node node) {
    if (node.unit != 0 && entries_[node.begin].entry.bytes.size() == node.depth) {
      const auto id = static_cast<uint64_t>(entries_[node.begin].entry.id);
      units_[node.unit] |= (id + 1) << ByteTrie::kIdShift;
      ++node.begin;
    }
    if (node.begin == node.end) {
      return;
    }
    std::array<Node, 256> children;
    std::array<uint8_t, 256> labels;
    size_t n_children = 0;
    for (size_t i = node.begin; i < node.end; ++i) {
      const auto label = static_cast<uint8_t>(entries_[i].entry.bytes[node.depth]);
      if (n_children == 0 || labels[n_children - 1] != label) {
        labels[n_children] = label;
        children[n_children++] = {i, i, node.depth + 1, 0};
      }
      children[n_children - 1].end = i + 1;
    }
    size_t base = ByteTrie::kRootBase;
    if (node.unit != 0) {
      base = find_base(labels.data(), n_children);
      units_[node.unit] |= static_cast<uint64_t>(base) << ByteTrie::kBaseShift;
    } else {
      std::fill_n(free_.begin() + 4, 4, 0);
    }
    used_base_[base] = true;
    for (size_t i = n_children; i-- > 0;) {
      const size_t unit = base ^ labels[i];
      units_[unit] = labels[i];
      free_[unit / 64] &= ~(uint64_t{1} << (unit % 64));
      children[i].unit = unit;
      pending_.push_back(children[i]);
    }
  }

  bool fits(size_t base, const uint8_t* labels, size_t n_labels) const {
    for (size_t i = 1; i < n_labels; ++i) {
      const size_t unit = base ^ labels[i];
      if (((free_[unit / 64] >> (unit % 64)) & 1u) == 0) {
        return false;
      }
    }
    return !used_base_[base];
  }

  size_t find_base(const uint8_t* labels, size_t n_labels) {
    while (first_open_ < free_.size() && free_[first_open_] == 0) {
      ++first_open_;
    }
    for (size_t word = first_open_; word < free_.size(); ++word) {
      for (uint64_t bits = free_[word]; bits != 0; bits &= bits - 1) {
        const size_t unit = word * 64 + static_cast<size_t>(std::countr_zero(bits));
        if (fits(unit ^ labels[0], labels, n_labels)) {
          return unit ^ labels[0];
        }
      }
    }
    const size_t base = units_.size();
    add_block();
    return base;
  }

  const std::vector<SortedEntry>& entries_;
  std::vector<uint64_t> units_;
  std::vector<uint64_t> free_;  ///< one bit per unit
  std::vector<bool> used_base_;
  size_t first_open_ = 0;  ///< word of free_ from which places are searched
  std::vector<Node> pending_;
};

ByteTrie::ByteTrie() : units_(2 * kBlock, kFreeLabel) {}

Result<ByteTrie> ByteTrie::build(const std::vector<Entry>& entries) {
  RWKV_ASSIGN(const std::vector<SortedEntry> sorted, sort_entries(entries));
  ByteTrie trie;
  if (!sorted.empty()) {
    trie.units_ = ByteTrieBuilder(sorted).build();
  }
  return trie;
}

}  // namespace rwkv
