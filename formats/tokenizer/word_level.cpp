// The word tokenizer of models of music and of tasks (WordLevel with WhitespaceSplit in
// tokenizer.json): words between white space, each one token. Added tokens are found in the text
// before, wherever they stand.
#include <utility>

#include "formats/base/utf8.h"
#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/token_table.h"
#include "formats/tokenizer/tokenizers.h"
#include "formats/tokenizer/unicode.h"

namespace rwkv {

namespace {

constexpr int32_t kNoToken = -1;

class WordTokenizer : public Tokenizer {
 public:
  /// `words` are the tokens as they are looked up; `added` those that are found anywhere.
  WordTokenizer(const Vocabulary& vocabulary, TokenTable shown, ByteTrie words, ByteTrie added)
      : shown_(std::move(shown)),
        words_(std::move(words)),
        added_(std::move(added)),
        unknown_(vocabulary.unknown),
        lowercase_(vocabulary.lowercase) {}

  TokenizerKind kind() const override { return TokenizerKind::WordLevel; }
  size_t n_vocab() const override { return shown_.size(); }
  /// The word after a space, so that tokens one after the other are words again.
  std::string_view token_bytes(int32_t id) const override { return shown_[id]; }
  size_t memory_bytes() const override {
    return sizeof(*this) + shown_.memory_bytes() + words_.memory_bytes() + added_.memory_bytes();
  }

  Status encode(std::string_view text, std::vector<int32_t>& ids) const override {
    const size_t n_before = ids.size();
    const Status status = encode_all(text, ids);
    if (!status.ok()) {
      ids.resize(n_before);
    }
    return status;
  }

 private:
  Status encode_all(std::string_view text, std::vector<int32_t>& ids) const {
    if (const size_t valid = utf8_valid_prefix(text); valid != text.size()) {
      return bad_input(
          "text: expected UTF-8, found byte {:#04x} at offset {}; save the text as UTF-8",
          static_cast<unsigned>(static_cast<unsigned char>(text[valid])), valid);
    }
    std::string word;
    for (size_t at = 0; at < text.size();) {
      const ByteTrie::Match match = added_.longest(text.substr(at));
      const CodePoint point = decode_utf8(text.substr(at));
      if (match.length > 0) {
        RWKV_TRY(end_word(word, ids));
        ids.push_back(match.id);
        at += match.length;
        continue;
      }
      if (char_class(point.value) == CharClass::Space) {
        RWKV_TRY(end_word(word, ids));
      } else {
        append_utf8(word, lowercase_ ? lower(point.value) : point.value);
      }
      at += point.length;
    }
    return end_word(word, ids);
  }

  /// All words of a vocabulary with lower case are ASCII (make_word_tokenizer), and of the letters
  /// beyond ASCII only the Kelvin sign has a lower case in ASCII.
  static uint32_t lower(uint32_t value) {
    constexpr uint32_t kKelvin = 0x212a;
    return value == kKelvin ? uint32_t{'k'} : value >= 'A' && value <= 'Z' ? value + 32 : value;
  }

  Status end_word(std::string& word, std::vector<int32_t>& ids) const {
    if (word.empty()) {
      return {};
    }
    const ByteTrie::Match match = words_.longest(word);
    const bool is_known = match.length == word.size();
    if (!is_known && unknown_ == kNoToken) {
      return bad_input(
          "text: \"{}\" is no word of the vocabulary, which has no token for unknown words; remove "
          "it from the text",
          escape_token(std::string_view(word).substr(0, 64)));
    }
    ids.push_back(is_known ? match.id : unknown_);
    word.clear();
    return {};
  }

  TokenTable shown_;
  ByteTrie words_;
  ByteTrie added_;
  int32_t unknown_;
  bool lowercase_;
};

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) {
      return false;
    }
  }
  return true;
}

Status check_word(const Vocabulary& vocabulary, size_t id) {
  const std::string& word = vocabulary.tokens[id];
  if (!is_valid_utf8(word)) {
    return bad_input("token {}: \"{}\" is not UTF-8", id, escape_token(word));
  }
  if (vocabulary.lowercase && !is_ascii(word)) {
    return bad_input(
        "token {}: \"{}\": lower case is supported only for vocabularies of ASCII words", id,
        escape_token(word));
  }
  return {};
}

Result<std::unique_ptr<Tokenizer>> build(const Vocabulary& vocabulary, size_t n_vocab) {
  std::vector<ByteTrie::Entry> words;
  std::vector<ByteTrie::Entry> added;
  TokenTable shown;
  for (size_t id = 0; id < n_vocab; ++id) {
    const std::string& word = vocabulary.tokens[id];
    RWKV_TRY(check_word(vocabulary, id));
    shown.add(word.empty() ? word : ' ' + word);
    if (!word.empty()) {
      words.push_back({word, static_cast<int32_t>(id)});
    }
  }
  for (const int32_t id : vocabulary.added) {
    if (id < 0 || static_cast<size_t>(id) >= n_vocab) {
      return bad_input("added token: expected an id below {}, found {}", n_vocab, id);
    }
    added.push_back({vocabulary.tokens[static_cast<size_t>(id)], id});
  }
  if (vocabulary.unknown != kNoToken &&
      (vocabulary.unknown < 0 || static_cast<size_t>(vocabulary.unknown) >= n_vocab)) {
    return bad_input("token for unknown words: expected an id below {}, found {}", n_vocab,
                     vocabulary.unknown);
  }
  RWKV_ASSIGN(ByteTrie word_trie, ByteTrie::build(words));
  RWKV_ASSIGN(ByteTrie added_trie, ByteTrie::build(added));
  return std::unique_ptr<Tokenizer>(std::make_unique<WordTokenizer>(
      vocabulary, std::move(shown), std::move(word_trie), std::move(added_trie)));
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_word_tokenizer(const Vocabulary& vocabulary) {
  if (!vocabulary.merges.empty()) {
    return bad_input("wordlevel vocabulary: expected no merges, found {}",
                     vocabulary.merges.size());
  }
  RWKV_ASSIGN(const size_t n_vocab, checked_vocabulary_size(vocabulary));
  auto tokenizer = build(vocabulary, n_vocab);
  return tokenizer.ok() ? std::move(tokenizer) : tokenizer.status().in("wordlevel vocabulary");
}

}  // namespace rwkv
