// The World tokenizer: at each position the longest token that the text starts with. Same ids as
// TRIE_TOKENIZER of the rwkv pip package.
#include <array>
#include <utility>

#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/token_table.h"
#include "formats/tokenizer/tokenizers.h"

namespace rwkv {

namespace {

class WorldTokenizer : public Tokenizer {
 public:
  WorldTokenizer(TokenTable tokens, ByteTrie trie)
      : tokens_(std::move(tokens)), trie_(std::move(trie)) {}

  TokenizerKind kind() const override { return TokenizerKind::World; }
  size_t n_vocab() const override { return tokens_.size(); }
  std::string_view token_bytes(int32_t id) const override { return tokens_[id]; }
  size_t memory_bytes() const override {
    return sizeof(*this) + tokens_.memory_bytes() + trie_.memory_bytes();
  }
  Status encode(std::string_view text, std::vector<int32_t>& ids) const override;

 private:
  TokenTable tokens_;
  ByteTrie trie_;
};

Status WorldTokenizer::encode(std::string_view text, std::vector<int32_t>& ids) const {
  const size_t n_before = ids.size();
  // Ids are appended in batches, which saves a capacity check per token without reserving four
  // bytes per byte of text.
  std::array<int32_t, 512> lot;
  size_t n_lot = 0;
  size_t at = 0;
  while (at < text.size()) {
    const ByteTrie::Match match = trie_.longest(text.substr(at));
    if (match.length == 0) {
      ids.resize(n_before);
      return bad_input(
          "text: no token of the vocabulary starts with byte {:#04x} at offset {}; remove it from "
          "the text",
          static_cast<unsigned>(static_cast<unsigned char>(text[at])), at);
    }
    at += match.length;
    lot[n_lot++] = match.id;
    if (n_lot == lot.size()) {
      ids.insert(ids.end(), lot.begin(), lot.end());
      n_lot = 0;
    }
  }
  ids.insert(ids.end(), lot.begin(), lot.begin() + static_cast<std::ptrdiff_t>(n_lot));
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_world_tokenizer(const Vocabulary& vocabulary) {
  if (!vocabulary.merges.empty() || !vocabulary.added.empty()) {
    return bad_input("rwkv vocabulary: expected no merges and no added tokens, found {} and {}",
                     vocabulary.merges.size(), vocabulary.added.size());
  }
  RWKV_ASSIGN(const size_t n_vocab, checked_vocabulary_size(vocabulary));
  TokenTable tokens;
  std::vector<ByteTrie::Entry> entries;
  for (size_t id = 0; id < n_vocab; ++id) {
    const std::string& bytes = vocabulary.tokens[id];
    tokens.add(bytes);
    if (!bytes.empty()) {
      entries.push_back({bytes, static_cast<int32_t>(id)});
    }
  }
  Result<ByteTrie> trie = ByteTrie::build(entries);
  if (!trie.ok()) {
    return trie.status().in("rwkv vocabulary");
  }
  return std::unique_ptr<Tokenizer>(
      std::make_unique<WorldTokenizer>(std::move(tokens), trie.take()));
}

}  // namespace rwkv
