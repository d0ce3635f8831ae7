// See printable.h.
#include "formats/base/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "formats/base/utf8.h"

namespace rwkv {
namespace {

struct Range {
  uint32_t first;
  uint32_t last;
};

// Turn the direction of what follows: embeddings, overrides and isolates.
constexpr Range kTurning[] = {{0x202a, 0x202e}, {0x2066, 0x2069}};

// Unicode's characters of the property Default_Ignorable_Code_Point, which show nothing, the
// separators of lines and paragraphs, and the anchors of annotations.
constexpr Range kInvisible[] = {
    {0x00ad, 0x00ad},   {0x034f, 0x034f},  {0x061c, 0x061c}, {0x115f, 0x1160}, {0x17b4, 0x17b5},
    {0x180b, 0x180f},   {0x200b, 0x200f},  {0x2028, 0x202e}, {0x2060, 0x206f}, {0x3164, 0x3164},
    {0xfe00, 0xfe0f},   {0xfeff, 0xfeff},  {0xffa0, 0xffa0}, {0xfff0, 0xfffb}, {0x1bca0, 0x1bca3},
    {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};

template <size_t kCount>
bool is_in(const Range (&ranges)[kCount], uint32_t value) {
  return std::any_of(std::begin(ranges), std::end(ranges), [&](const Range& range) {
    return value >= range.first && value <= range.last;
  });
}

bool is_control(uint32_t value) {
  return value < 0x20 || (value >= 0x7f && value < 0xa0);
}

enum class Style { OneLine, Lines, Stream, Json };

bool is_shown_as_it_is(uint32_t value, Style style) {
  if (value >= 0x20 && value < 0x7f) {
    return true;
  }
  if (is_control(value)) {
    return style != Style::OneLine && (value == '\n' || value == '\t');
  }
  return style == Style::Stream ? !is_in(kTurning, value) : !is_in(kInvisible, value);
}

void append_json_escape(std::string& out, uint32_t value) {
  if (value < 0x10000) {
    out += fmt::format("\\u{:04x}", value);
    return;
  }
  const uint32_t rest = value - 0x10000;
  out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
}

void append_escape(std::string& out, uint32_t value, Style style) {
  if (style == Style::Json) {
    append_json_escape(out, value);
  } else if (value == '\n' || value == '\t' || value == '\r') {
    out += value == '\n' ? "\\n" : value == '\t' ? "\\t" : "\\r";
  } else {
    out += value < 0x80 ? fmt::format("\\x{:02x}", value) : fmt::format("\\u{{{:x}}}", value);
  }
}

void append(std::string& out, std::string_view text, Style style) {
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    if (point.length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
      text.remove_prefix(1);
      continue;
    }
    if (is_shown_as_it_is(point.value, style)) {
      out += text.substr(0, point.length);
    } else {
      append_escape(out, point.value, style);
    }
    text.remove_prefix(point.length);
  }
}

// The nearest beginning of a character at or before `at`; characters have at most four bytes.
size_t character_begin(std::string_view text, size_t at) {
  for (size_t back = 0; back < 4 && back <= at; ++back) {
    if ((static_cast<unsigned char>(text[at - back]) & 0xc0) != 0x80) {
      return at - back;
    }
  }
  return at;
}

}  // namespace

std::string printable(std::string_view bytes, size_t limit) {
  std::string out;
  if (bytes.size() <= limit) {
    append(out, bytes, Style::OneLine);
    return out;
  }
  // The end of a message says what to do, that of a path which file it is.
  const size_t head = character_begin(bytes, limit - limit / 4);
  const size_t tail = character_begin(bytes, bytes.size() - limit / 4);
  append(out, bytes.substr(0, head), Style::OneLine);
  out += fmt::format(" [... {} bytes left out ...] ", tail - head);
  append(out, bytes.substr(tail), Style::OneLine);
  return out;
}

std::string printable_lines(std::string_view text) {
  std::string out;
  append(out, text, Style::Lines);
  return out;
}

std::string printable_stream(std::string_view text) {
  std::string out;
  append(out, text, Style::Stream);
  return out;
}

std::string printable_json(std::string_view json) {
  std::string out;
  append(out, json, Style::Json);
  return out;
}

}  // namespace rwkv
