// Any text through each kind of tokenizer: encode either fails cleanly or gives ids that decode to
// the same bytes (words: to the same words). The fuzzer chooses text, kind and, for World, a part
// of the vocabulary. The text is a split pattern too.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "formats/base/utf8.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/split_pattern.h"
#include "formats/tokenizer/tokenizer.h"

using namespace rwkv;

static void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

static Vocabulary byte_level(uint8_t options) {
  Vocabulary vocabulary;
  vocabulary.kind = (options & 1) != 0 ? TokenizerKind::World : TokenizerKind::Bpe;
  for (int i = 0; i < 256; ++i) {
    const std::string byte(1, static_cast<char>(i));
    vocabulary.tokens.push_back(vocabulary.kind == TokenizerKind::World ? byte : spell_bytes(byte));
  }
  if (vocabulary.kind == TokenizerKind::Bpe) {
    vocabulary.normalize_nfc = (options & 2) != 0;
    vocabulary.tokens.insert(vocabulary.tokens.end(), {"aa", "ab", "aab", "abab", "<|x|>", "  "});
    vocabulary.merges = {"a a", "a b", "a ab", "ab ab"};
    if ((options & 8) != 0) {
      vocabulary.splits = {{"[^\\s\\p{L}]+(?!\\S)|\\p{N}{1,2}", true, SplitBehavior::MergedWithNext,
                            (options & 16) != 0}};
      vocabulary.splits_as_gpt2 = (options & 32) != 0;
    }
    vocabulary.added = {260, 261};
  }
  return vocabulary;
}

// A pattern that compiles finds matches that lie in the text and move on.
static void find_all(const std::string& pattern, std::string_view text) {
  const auto compiled = SplitPattern::compile(pattern);
  if (!compiled.ok() || !is_valid_utf8(text)) {
    return;
  }
  size_t steps = SplitPattern::most_steps(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto match = compiled.value().find(text, at, steps);
    if (!match.ok()) {
      return;
    }
    const size_t end = match.value().begin + match.value().length;
    require(match.value().begin >= at && end <= text.size());
    require(match.value().length > 0 || end == text.size());
    require(is_valid_utf8(text.substr(match.value().begin, match.value().length)));
    at = end;
  }
}

static void round_trip_words(const std::string& text) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::WordLevel;
  vocabulary.tokens = {"<x>", "a", "b", "ab", "12"};
  vocabulary.added = {0};
  vocabulary.unknown = 0;
  const auto tokenizer = make_tokenizer(vocabulary).take();
  std::vector<int32_t> ids, again;
  const bool encoded = tokenizer->encode(text, ids).ok();
  require(encoded == is_valid_utf8(text));
  require(!encoded || tokenizer->encode(decode(*tokenizer, ids).value(), again).ok());
  require(!encoded || again == ids);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const uint8_t options = data[0];
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  find_all(text.substr(0, text.size() / 2), text);
  round_trip_words(text);
  Vocabulary vocabulary = (options & 4) != 0 ? Vocabulary() : byte_level(options);
  if (vocabulary.kind == TokenizerKind::World) {
    for (size_t at = 0; at + 3 < text.size() && at < 64; at += 3) {
      vocabulary.tokens.push_back(text.substr(at, 2 + at % 7));
    }
  }
  const auto tokenizer = make_tokenizer(vocabulary);
  require(unescape_token(escape_token(text)).value() == text && is_valid_utf8(escape_token(text)));
  if (!tokenizer.ok()) {
    return 0;
  }
  std::vector<int32_t> ids;
  const bool encoded = tokenizer.value()->encode(text, ids).ok();
  require(encoded == (vocabulary.kind != TokenizerKind::Bpe || is_valid_utf8(text)));
  require(!encoded || vocabulary.normalize_nfc || decode(*tokenizer.value(), ids).value() == text);
  return 0;
}
