// See python_literal.h.
#include "formats/tokenizer/python_literal.h"

#include "formats/base/utf8.h"

namespace rwkv {

std::optional<char> simple_escape(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 't':
      return '\t';
    case 'r':
      return '\r';
    case '\\':
    case '\'':
    case '"':
      return c;
    default:
      return std::nullopt;
  }
}

std::optional<uint32_t> hex_number(std::string_view text, size_t n_digits) {
  if (text.size() < n_digits) {
    return std::nullopt;
  }
  uint32_t value = 0;
  for (const char c : text.substr(0, n_digits)) {
    int digit = -1;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    }
    if (digit < 0) {
      return std::nullopt;
    }
    value = (value << 4) | static_cast<uint32_t>(digit);
  }
  return value;
}

enum class LiteralKind { Str, Bytes };

/// Appends the value of the numeric escape at the start of `rest` (a backslash) and sets `length`
/// to the number of its characters.
static Status append_numeric_escape(std::string_view rest, LiteralKind kind, std::string& out,
                                    size_t& length) {
  const char letter = rest[1];
  const size_t n_digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
  if (n_digits == 0 || (kind == LiteralKind::Bytes && letter != 'x')) {
    return bad_input("unknown escape \\{}; known are \\n \\t \\r \\\\ \\' \\\" \\xNN{}",
                     letter >= 0x20 && letter < 0x7f ? letter : '?',
                     kind == LiteralKind::Str ? " \\uNNNN \\UNNNNNNNN" : " in a bytes literal");
  }
  const std::optional<uint32_t> value = hex_number(rest.substr(2), n_digits);
  if (!value) {
    return bad_input("expected {1} hexadecimal digits after \\{0}", letter, n_digits);
  }
  length = 2 + n_digits;
  if (kind == LiteralKind::Bytes) {
    out += static_cast<char>(*value);
    return {};
  }
  if (!is_scalar_value(*value)) {
    return bad_input("\\{} names {:#x}, which is no code point that UTF-8 can hold", letter,
                     *value);
  }
  append_utf8(out, *value);
  return {};
}

static Status append_body(std::string_view body, char quote, LiteralKind kind, std::string& out) {
  for (size_t at = 0; at < body.size();) {
    const char c = body[at];
    if (c == quote) {
      return bad_input("unescaped quote inside the literal");
    }
    if (c != '\\') {
      if (kind == LiteralKind::Bytes && static_cast<unsigned char>(c) >= 0x80) {
        return bad_input("bytes literal holds a byte outside ASCII; it must be written as \\xNN");
      }
      out += c;
      ++at;
      continue;
    }
    if (at + 1 == body.size()) {
      return bad_input("the literal is not closed: its last quote is escaped");
    }
    if (const std::optional<char> simple = simple_escape(body[at + 1])) {
      out += *simple;
      at += 2;
      continue;
    }
    size_t length = 0;
    RWKV_TRY(append_numeric_escape(body.substr(at), kind, out, length));
    at += length;
  }
  return {};
}

Result<std::string> parse_python_literal(std::string_view text) {
  LiteralKind kind = LiteralKind::Str;
  if (!text.empty() && text.front() == 'b') {
    kind = LiteralKind::Bytes;
    text.remove_prefix(1);
  }
  if (text.empty() || (text.front() != '\'' && text.front() != '"')) {
    return bad_input("expected a Python literal '...' or b'...'");
  }
  const char quote = text.front();
  if (text.size() < 2 || text.back() != quote) {
    return bad_input("the literal is not closed: it starts with {} but does not end with it",
                     quote);
  }
  if (!is_valid_utf8(text)) {
    return bad_input("the literal is not valid UTF-8");
  }
  std::string out;
  RWKV_TRY(append_body(text.substr(1, text.size() - 2), quote, kind, out));
  return out;
}

}  // namespace rwkv
