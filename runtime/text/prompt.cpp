#include "runtime/text/prompt.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "formats/base/utf8.h"

namespace rwkv::edge {
namespace {

constexpr uint32_t kFirstSurrogate = 0xD800;
constexpr uint32_t kFirstLowSurrogate = 0xDC00;
constexpr uint32_t kEndOfSurrogates = 0xE000;
constexpr uint32_t kBeyondBasicPlane = 0x10000;

/// The number that the `n` hexadecimal digits at `at` write; nothing if there are fewer.
std::optional<uint32_t> hexadecimal(std::string_view text, size_t at, size_t n) {
  uint32_t value = 0;
  if (at + n > text.size()) {
    return std::nullopt;
  }
  const char* end = text.data() + at + n;
  const auto [stopped, error] = std::from_chars(text.data() + at, end, value, 16);
  return error == std::errc() && stopped == end ? std::optional(value) : std::nullopt;
}

/// An escape: its length in the text, 0 if it is none, and what it stands for is appended.
size_t take_character(std::string_view text, std::string& out) {
  const size_t n_digits = text[1] == 'u' ? 4 : 8;
  auto c = hexadecimal(text, 2, n_digits);
  size_t length = 2 + n_digits;
  if (!c) {
    return 0;
  }
  if (n_digits == 4 && *c >= kFirstSurrogate && *c < kFirstLowSurrogate) {
    const auto low =
        text.substr(length, 2) == "\\u" ? hexadecimal(text, length + 2, 4) : std::nullopt;
    if (!low || *low < kFirstLowSurrogate || *low >= kEndOfSurrogates) {
      return 0;
    }
    c = kBeyondBasicPlane + ((*c - kFirstSurrogate) << 10) + (*low - kFirstLowSurrogate);
    length += 6;
  }
  if (!is_scalar_value(*c)) {
    return 0;
  }
  append_utf8(out, *c);
  return length;
}

/// The same for an escape of any kind; `text` begins with a backslash.
size_t take_escape(std::string_view text, std::string& out) {
  constexpr std::string_view kLetters = "ntr\\\"'";
  constexpr std::string_view kMeanings = "\n\t\r\\\"'";
  if (text.size() < 2) {
    return 0;
  }
  if (const size_t at = kLetters.find(text[1]); at != std::string_view::npos) {
    out += kMeanings[at];
    return 2;
  }
  if (text[1] == 'x') {
    const auto byte = hexadecimal(text, 2, 2);
    if (byte) {
      out += static_cast<char>(*byte);
    }
    return byte ? 4 : 0;
  }
  return text[1] == 'u' || text[1] == 'U' ? take_character(text, out) : 0;
}

/// The name of an encoding with two or four bytes for each character, or nullptr. Text without a
/// mark is recognised by its zero bytes, which UTF-8 text does not have.
const char* wide_encoding(std::string_view bytes) {
  constexpr size_t kLooked = 4096;
  if (bytes.starts_with(std::string_view("\xFF\xFE\0\0", 4)) ||
      bytes.starts_with(std::string_view("\0\0\xFE\xFF", 4))) {
    return "UTF-32";
  }
  if (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF")) {
    return "UTF-16";
  }
  size_t zeros[2] = {};
  const size_t n = std::min(bytes.size(), kLooked);
  for (size_t i = 0; i < n; ++i) {
    zeros[i % 2] += bytes[i] == '\0' ? 1 : 0;
  }
  // Most characters of most texts are below 256, so half of the bytes are zero, all on one side.
  const bool is_wide = n >= 4 && zeros[0] + zeros[1] >= n / 4 &&
                       std::min(zeros[0], zeros[1]) * 4 < std::max(zeros[0], zeros[1]);
  return is_wide ? "UTF-16" : nullptr;
}

}  // namespace

std::string replace_escapes(std::string_view typed, std::vector<std::string>& unknown) {
  std::string out;
  out.reserve(typed.size());
  while (!typed.empty()) {
    const size_t plain = std::min(typed.find('\\'), typed.size());
    out += typed.substr(0, plain);
    typed.remove_prefix(plain);
    if (typed.empty()) {
      break;
    }
    if (const size_t length = take_escape(typed, out); length > 0) {
      typed.remove_prefix(length);
      continue;
    }
    const bool has_letter = typed.size() > 1 && typed[1] > ' ' && typed[1] < '\x7f';
    const std::string kept(typed.substr(0, has_letter ? 2 : 1));
    if (std::find(unknown.begin(), unknown.end(), kept) == unknown.end()) {
      unknown.push_back(kept);
    }
    out += '\\';
    typed.remove_prefix(1);
  }
  return out;
}

Result<std::string> prompt_in_file(std::string bytes) {
  if (const char* encoding = wide_encoding(bytes)) {
    return bad_input(
        "expected text in UTF-8, found {}; convert it: iconv -f {} -t UTF-8 FILE > NEW_FILE",
        encoding, encoding);
  }
  std::string text;
  text.reserve(bytes.size());
  std::string_view rest = bytes;
  if (rest.starts_with("\xEF\xBB\xBF")) {
    rest.remove_prefix(3);
  }
  for (size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] != '\r' || i + 1 == rest.size() || rest[i + 1] != '\n') {
      text += rest[i];
    }
  }
  if (text.ends_with('\n')) {
    text.pop_back();
  }
  return text;
}

bool ends_in_blank(std::string_view prompt) {
  return prompt.ends_with(' ') || prompt.ends_with('\t');
}

}  // namespace rwkv::edge
