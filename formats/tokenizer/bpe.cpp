// Byte-level BPE as GPT-2 and GPT-NeoX use it: added tokens first, then NFC if the vocabulary
// says so, then pieces (pre_split.h, pre_tokenizer.h), then merges (merge_table.h).
#include <array>
#include <unordered_map>
#include <utility>

#include "formats/base/utf8.h"
#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/merge_table.h"
#include "formats/tokenizer/pre_split.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/token_table.h"
#include "formats/tokenizer/tokenizers.h"
#include "formats/tokenizer/unicode.h"

namespace rwkv {

namespace {

// PieceMerger counts in 32 bits; NFC makes UTF-8 at most three times as long.
constexpr size_t kMaxText = size_t{1} << 30;
constexpr size_t kMaxSplits = 16;  // files in use have one to three

struct BpeParts {
  TokenTable tokens;
  ByteTrie added;
  MergeTable merges;
  std::array<int32_t, 256> byte_ids;  ///< -1 for bytes that the vocabulary lacks
  bool normalize_nfc = false;
  std::vector<CompiledSplit> splits;
  bool splits_as_gpt2 = true;
  bool add_prefix_space = false;
};

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(BpeParts parts) : parts_(std::move(parts)) {}

  TokenizerKind kind() const override { return TokenizerKind::Bpe; }
  size_t n_vocab() const override { return parts_.tokens.size(); }
  std::string_view token_bytes(int32_t id) const override { return parts_.tokens[id]; }
  size_t memory_bytes() const override {
    size_t bytes = sizeof(*this) + parts_.tokens.memory_bytes() + parts_.added.memory_bytes() +
                   parts_.merges.memory_bytes();
    for (const CompiledSplit& split : parts_.splits) {
      bytes += sizeof(split) + split.memory_bytes();
    }
    return bytes;
  }
  Status encode(std::string_view text, std::vector<int32_t>& ids) const override;

 private:
  struct Work {
    explicit Work(const MergeTable& merges) : merger(merges) {}
    PieceMerger merger;
    std::vector<int32_t> symbols;
    std::string normalized;
  };
  Status encode_all(std::string_view text, std::vector<int32_t>& ids) const;
  Status encode_segment(std::string_view segment, Work& work, std::vector<int32_t>& ids) const;
  Status encode_split(std::string_view text, size_t n_done, Work& work,
                      std::vector<int32_t>& ids) const;
  Status encode_bytes(std::string_view text, Work& work, std::vector<int32_t>& ids) const;
  Status encode_piece(std::string_view piece, Work& work, std::vector<int32_t>& ids) const;

  BpeParts parts_;
};

Status BpeTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  const size_t n_before = ids.size();
  const Status status = encode_all(text, ids);
  if (!status.ok()) {
    ids.resize(n_before);
  }
  return status;
}

Status BpeTokenizer::encode_all(std::string_view text, std::vector<int32_t>& ids) const {
  if (text.size() > kMaxText) {
    return usage_error("text: expected at most {} bytes at a time, found {}; split the text",
                       kMaxText, text.size());
  }
  if (const size_t valid = utf8_valid_prefix(text); valid != text.size()) {
    return bad_input(
        "text: expected UTF-8, found byte {:#04x} at offset {}; save the text as UTF-8",
        static_cast<unsigned>(static_cast<unsigned char>(text[valid])), valid);
  }
  Work work(parts_.merges);
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const ByteTrie::Match match = parts_.added.longest(text.substr(at));
    if (match.length == 0) {
      ++at;
      continue;
    }
    RWKV_TRY(encode_segment(text.substr(begin, at - begin), work, ids));
    ids.push_back(match.id);
    at += match.length;
    begin = at;
  }
  return encode_segment(text.substr(begin), work, ids);
}

Status BpeTokenizer::encode_segment(std::string_view segment, Work& work,
                                    std::vector<int32_t>& ids) const {
  if (parts_.normalize_nfc && may_change_in_nfc(segment)) {
    work.normalized = to_nfc(segment);
    segment = work.normalized;
  }
  return encode_split(segment, 0, work, ids);
}

// The rules from `n_done` on, each on the pieces of the one before.
Status BpeTokenizer::encode_split(std::string_view text, size_t n_done, Work& work,
                                  std::vector<int32_t>& ids) const {
  if (text.empty()) {
    return {};
  }
  if (n_done == parts_.splits.size()) {
    return encode_bytes(text, work, ids);
  }
  return parts_.splits[n_done].split(
      text, [&](std::string_view piece) { return encode_split(piece, n_done + 1, work, ids); });
}

Status BpeTokenizer::encode_bytes(std::string_view text, Work& work,
                                  std::vector<int32_t>& ids) const {
  std::string with_space;
  if (parts_.add_prefix_space && text.front() != ' ') {
    with_space.assign(1, ' ');
    with_space += text;
    text = with_space;
  }
  while (!text.empty()) {
    const std::string_view piece = parts_.splits_as_gpt2 ? text.substr(0, first_piece(text)) : text;
    text.remove_prefix(piece.size());
    RWKV_TRY(encode_piece(piece, work, ids));
  }
  return {};
}

Status BpeTokenizer::encode_piece(std::string_view piece, Work& work,
                                  std::vector<int32_t>& ids) const {
  work.symbols.clear();
  for (const char c : piece) {
    const auto byte = static_cast<unsigned char>(c);
    if (parts_.byte_ids[byte] < 0) {
      return bad_input(
          "text: the vocabulary has no token for byte {:#04x} in \"{}\"; remove it from the text",
          static_cast<unsigned>(byte), escape_token(piece.substr(0, 64)));
    }
    work.symbols.push_back(parts_.byte_ids[byte]);
  }
  work.merger.merge(work.symbols, ids);
  return {};
}

/// Checks the vocabulary and turns it into BpeParts.
class BpeBuilder {
 public:
  BpeBuilder(const Vocabulary& vocabulary, size_t n_vocab)
      : vocabulary_(vocabulary), is_added_(n_vocab, false) {
    parts_.byte_ids.fill(-1);
    parts_.normalize_nfc = vocabulary.normalize_nfc;
    parts_.splits_as_gpt2 = vocabulary.splits_as_gpt2;
    parts_.add_prefix_space = vocabulary.add_prefix_space;
  }

  Result<BpeParts> build() {
    if (vocabulary_.splits.size() > kMaxSplits) {
      return bad_input("expected at most {} rules that split text, found {}", kMaxSplits,
                       vocabulary_.splits.size());
    }
    for (const SplitRule& rule : vocabulary_.splits) {
      RWKV_ASSIGN(CompiledSplit split, CompiledSplit::compile(rule));
      parts_.splits.push_back(std::move(split));
    }
    RWKV_TRY(collect_added());
    RWKV_TRY(collect_tokens());
    RWKV_TRY(collect_merges());
    return std::move(parts_);
  }

 private:
  Status collect_added();
  Status collect_tokens();
  Status collect_merges();
  /// The id of `spelling` as a part of merge `rank`.
  Result<int32_t> id_of(std::string_view spelling, size_t rank) const;

  const Vocabulary& vocabulary_;
  std::vector<bool> is_added_;
  std::unordered_map<std::string_view, int32_t> ids_;  ///< by GPT-2 spelling
  std::vector<std::string> added_spellings_;           ///< owns keys of ids_
  BpeParts parts_;
};

Status BpeBuilder::collect_added() {
  std::vector<ByteTrie::Entry> entries;
  for (const int32_t id : vocabulary_.added) {
    if (id < 0 || static_cast<size_t>(id) >= is_added_.size()) {
      return bad_input("added token: expected an id below {}, found {}", is_added_.size(), id);
    }
    const std::string& text = vocabulary_.tokens[static_cast<size_t>(id)];
    if (is_added_[static_cast<size_t>(id)]) {
      return bad_input("added token: id {} is listed twice", id);
    }
    if (!is_valid_utf8(text)) {
      return bad_input("added token {}: \"{}\" is not UTF-8", id, escape_token(text));
    }
    is_added_[static_cast<size_t>(id)] = true;
    entries.push_back({text, id});
  }
  Result<ByteTrie> trie = ByteTrie::build(entries);
  if (!trie.ok()) {
    return trie.status().in("added tokens");
  }
  parts_.added = trie.take();
  return {};
}

Status BpeBuilder::collect_tokens() {
  ids_.reserve(is_added_.size());
  for (size_t i = 0; i < is_added_.size(); ++i) {
    const std::string& spelling = vocabulary_.tokens[i];
    const auto id = static_cast<int32_t>(i);
    if (is_added_[i] || spelling.empty()) {
      parts_.tokens.add(spelling);
      continue;
    }
    const std::optional<std::string> bytes = unspell_bytes(spelling);
    if (!bytes) {
      return bad_input("token {}: \"{}\" is not in GPT-2's spelling of bytes", id,
                       escape_token(spelling));
    }
    const auto [place, is_new] = ids_.emplace(spelling, id);
    if (!is_new) {
      return bad_input("token ids {} and {} are both \"{}\"", place->second, id,
                       escape_token(spelling));
    }
    parts_.tokens.add(*bytes);
    if (bytes->size() == 1) {
      parts_.byte_ids[static_cast<unsigned char>(bytes->front())] = id;
    }
  }
  // An added token may be a part of merges as well, unless an ordinary one has its spelling.
  added_spellings_.reserve(vocabulary_.added.size());
  for (const int32_t id : vocabulary_.added) {
    added_spellings_.push_back(spell_bytes(vocabulary_.tokens[static_cast<size_t>(id)]));
    ids_.emplace(added_spellings_.back(), id);
  }
  return {};
}

Result<int32_t> BpeBuilder::id_of(std::string_view spelling, size_t rank) const {
  const auto found = ids_.find(spelling);
  if (found == ids_.end()) {
    return bad_input("merge {} \"{}\": \"{}\" is not a token of the vocabulary", rank,
                     escape_token(vocabulary_.merges[rank]), escape_token(spelling));
  }
  return found->second;
}

Status BpeBuilder::collect_merges() {
  const size_t limit = static_cast<size_t>(ByteTrie::kMaxId) + 1;
  if (vocabulary_.merges.size() > limit) {
    return bad_input("expected at most {} merges, found {}", limit, vocabulary_.merges.size());
  }
  std::vector<MergeTable::Rule> rules;
  rules.reserve(vocabulary_.merges.size());
  std::string whole;
  for (size_t rank = 0; rank < vocabulary_.merges.size(); ++rank) {
    const std::string_view merge = vocabulary_.merges[rank];
    const size_t space = merge.find(' ');
    if (space == merge.npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != merge.npos) {
      return bad_input("merge {}: expected two tokens separated by a space, found \"{}\"", rank,
                       escape_token(merge));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    whole.assign(left);
    whole += right;
    MergeTable::Rule rule;
    rule.rank = static_cast<uint32_t>(rank);
    RWKV_ASSIGN(rule.left, id_of(left, rank));
    RWKV_ASSIGN(rule.right, id_of(right, rank));
    RWKV_ASSIGN(rule.merged, id_of(whole, rank));
    rules.push_back(rule);
  }
  RWKV_ASSIGN(parts_.merges, MergeTable::build(std::move(rules), is_added_.size()));
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(const Vocabulary& vocabulary) {
  RWKV_ASSIGN(const size_t n_vocab, checked_vocabulary_size(vocabulary));
  Result<BpeParts> parts = BpeBuilder(vocabulary, n_vocab).build();
  if (!parts.ok()) {
    return parts.status().in("gpt2 vocabulary");
  }
  return std::unique_ptr<Tokenizer>(std::make_unique<BpeTokenizer>(parts.take()));
}

}  // namespace rwkv
