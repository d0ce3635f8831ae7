// See escape.h.
#include "formats/tokenizer/escape.h"

#include <optional>

#include "formats/base/utf8.h"
#include "formats/tokenizer/python_literal.h"

namespace rwkv {

static void append_escaped_ascii(std::string& out, char c) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  switch (c) {
    case '\n':
      out += "\\n";
      return;
    case '\t':
      out += "\\t";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\\':
      out += "\\\\";
      return;
    default:
      break;
  }
  if (byte < 0x20 || byte >= 0x7f) {
    out += "\\x";
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  } else {
    out += c;
  }
}

std::string escape_token(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t length = decode_utf8(bytes).length;
    if (length > 1) {
      out += bytes.substr(0, length);
      bytes.remove_prefix(length);
    } else {
      append_escaped_ascii(out, bytes.front());
      bytes.remove_prefix(1);
    }
  }
  return out;
}

Result<std::string> unescape_token(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '\\') {
      out += text[at++];
      continue;
    }
    if (at + 1 == text.size()) {
      return bad_input("escaped token \"{}\": backslash at the end", escape_token(text));
    }
    const char kind = text[at + 1];
    if (const std::optional<char> simple = simple_escape(kind)) {
      out += *simple;
      at += 2;
      continue;
    }
    const std::optional<uint32_t> byte =
        kind == 'x' ? hex_number(text.substr(at + 2), 2) : std::nullopt;
    if (!byte) {
      return bad_input(
          "escaped token \"{}\": at offset {} expected \\n \\t \\r \\\\ \\' \\\" or \\xNN, found "
          "another escape",
          escape_token(text), at);
    }
    out += static_cast<char>(*byte);
    at += 4;
  }
  return out;
}

}  // namespace rwkv
