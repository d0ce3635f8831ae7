// Any text through each kind of tokenizer: encode either fails cleanly or gives ids that decode to
// the same bytes. The fuzzer chooses text, kind and, for World, a part of the vocabulary.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/tokenizer/utf8.h"

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
    vocabulary.added = {260, 261};
  }
  return vocabulary;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const uint8_t options = data[0];
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
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
