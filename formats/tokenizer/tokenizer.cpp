// What all tokenizers share: names, the choice by kind, decoding.
#include "formats/tokenizer/tokenizer.h"

#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/tokenizers.h"

namespace rwkv {

const char* tokenizer_kind_name(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::World:
      return "rwkv";
    case TokenizerKind::Byte:
      return "byte";
    case TokenizerKind::Bpe:
      return "gpt2";
    case TokenizerKind::WordLevel:
      return "wordlevel";
  }
  return "unknown";
}

Result<TokenizerKind> tokenizer_kind_from_name(std::string_view name) {
  for (const TokenizerKind kind :
       {TokenizerKind::World, TokenizerKind::Byte, TokenizerKind::Bpe, TokenizerKind::WordLevel}) {
    if (name == tokenizer_kind_name(kind)) {
      return kind;
    }
  }
  return bad_input("tokenizer: expected rwkv, byte, gpt2 or wordlevel, found \"{}\"", name);
}

Result<std::string> decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || static_cast<size_t>(ids[i]) >= tokenizer.n_vocab()) {
      return bad_input(
          "token {} of the sequence: expected an id below {}, found {}; give ids of this model's "
          "vocabulary",
          i, tokenizer.n_vocab(), ids[i]);
    }
    text += tokenizer.token_bytes(ids[i]);
  }
  return text;
}

Result<size_t> checked_vocabulary_size(const Vocabulary& vocabulary) {
  size_t n_vocab = vocabulary.tokens.size();
  while (n_vocab > 0 && vocabulary.tokens[n_vocab - 1].empty()) {
    --n_vocab;
  }
  const size_t limit = static_cast<size_t>(ByteTrie::kMaxId) + 1;
  if (n_vocab == 0) {
    return bad_input("{} vocabulary: it has no tokens", tokenizer_kind_name(vocabulary.kind));
  }
  if (n_vocab > limit) {
    return bad_input("{} vocabulary: expected at most {} ids, found {}",
                     tokenizer_kind_name(vocabulary.kind), limit, n_vocab);
  }
  size_t total = 0;
  for (const std::string& token : vocabulary.tokens) {
    total += token.size();
    if (total > ByteTrie::kMaxTotalBytes) {
      return bad_input("{} vocabulary: the tokens have more than {} bytes together",
                       tokenizer_kind_name(vocabulary.kind), ByteTrie::kMaxTotalBytes);
    }
  }
  return n_vocab;
}

Result<std::unique_ptr<Tokenizer>> make_tokenizer(const Vocabulary& vocabulary) {
  switch (vocabulary.kind) {
    case TokenizerKind::World:
      return make_world_tokenizer(vocabulary);
    case TokenizerKind::Byte:
      return make_byte_tokenizer(vocabulary);
    case TokenizerKind::Bpe:
      return make_bpe_tokenizer(vocabulary);
    case TokenizerKind::WordLevel:
      return make_word_tokenizer(vocabulary);
  }
  return bad_input("vocabulary: unknown tokenizer kind {}", static_cast<int>(vocabulary.kind));
}

}  // namespace rwkv
