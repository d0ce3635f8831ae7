// See pre_tokenizer.h.
#include "formats/tokenizer/pre_tokenizer.h"

#include "formats/base/utf8.h"
#include "formats/tokenizer/unicode.h"

namespace rwkv {

namespace {

constexpr bool spells_itself(uint32_t byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/// Bytes that are not printable are spelled U+0100, U+0101, ... in order.
constexpr std::array<uint16_t, 256> kSpelling = [] {
  std::array<uint16_t, 256> spelling{};
  uint16_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    spelling[byte] = spells_itself(byte) ? static_cast<uint16_t>(byte) : next++;
  }
  return spelling;
}();

constexpr uint16_t kNoByte = 256;
constexpr std::array<uint16_t, 324> kSpelledByte = [] {
  std::array<uint16_t, 324> bytes{};
  bytes.fill(kNoByte);
  for (uint16_t byte = 0; byte < 256; ++byte) {
    bytes[kSpelling[byte]] = byte;
  }
  return bytes;
}();

struct ClassifiedPoint {
  CharClass kind = CharClass::Other;
  size_t length = 0;
};

ClassifiedPoint classify(std::string_view text, size_t at) {
  const CodePoint point = decode_utf8(text.substr(at));
  // Length 1 for invalid bytes, which the caller excludes: no input can cause an endless loop.
  return {char_class(point.value), point.length == 0 ? 1 : point.length};
}

/// Length of the run of code points of class `kind` that starts at `at`.
size_t run_length(std::string_view text, size_t at, CharClass kind) {
  const size_t begin = at;
  while (at < text.size()) {
    const ClassifiedPoint point = classify(text, at);
    if (point.kind != kind) {
      break;
    }
    at += point.length;
  }
  return at - begin;
}

/// `\s+(?!\S)|\s+`: all the white space up to the end of the text; before a word, all but its last
/// character, unless that is all there is.
size_t space_piece(std::string_view text) {
  size_t at = 0;
  size_t last = 0;
  while (at < text.size()) {
    const ClassifiedPoint point = classify(text, at);
    if (point.kind != CharClass::Space) {
      return at == last ? at : at - last;
    }
    last = point.length;
    at += point.length;
  }
  return at;
}

}  // namespace

size_t first_piece(std::string_view text) {
  for (const std::string_view suffix : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.front() == '\'' && text.starts_with(suffix)) {
      return suffix.size();
    }
  }
  const size_t word = text.front() == ' ' ? 1 : 0;
  if (word < text.size()) {
    const CharClass kind = classify(text, word).kind;
    if (kind != CharClass::Space) {
      return word + run_length(text, word, kind);
    }
  }
  return space_piece(text);
}

std::string spell_bytes(std::string_view bytes) {
  std::string spelling;
  for (const char c : bytes) {
    append_utf8(spelling, kSpelling[static_cast<unsigned char>(c)]);
  }
  return spelling;
}

std::optional<std::string> unspell_bytes(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  while (!spelling.empty()) {
    const CodePoint point = decode_utf8(spelling);
    if (point.length == 0 || point.value >= kSpelledByte.size() ||
        kSpelledByte[point.value] == kNoByte) {
      return std::nullopt;
    }
    bytes += static_cast<char>(kSpelledByte[point.value]);
    spelling.remove_prefix(point.length);
  }
  return bytes;
}

}  // namespace rwkv
