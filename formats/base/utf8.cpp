// See utf8.h. The ranges follow table 3-7 of the Unicode standard, "Well-Formed UTF-8 Byte
// Sequences".
#include "formats/base/utf8.h"

#include "formats/base/little_endian.h"

namespace rwkv {

static uint32_t byte_at(std::string_view text, size_t i) {
  return static_cast<unsigned char>(text[i]);
}

CodePoint decode_utf8(std::string_view text) {
  if (text.empty()) {
    return {};
  }
  const uint32_t lead = byte_at(text, 0);
  if (lead < 0x80) {
    return {lead, 1};
  }
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) {
    return {};
  }
  uint32_t value = lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    const uint32_t next = byte_at(text, i);
    if ((next & 0xc0u) != 0x80u) {
      return {};
    }
    value = (value << 6) | (next & 0x3fu);
  }
  const uint32_t smallest = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
  if (value < smallest || !is_scalar_value(value)) {
    return {};
  }
  return {value, length};
}

void append_utf8(std::string& out, uint32_t value) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    put(value);
    return;
  }
  if (value < 0x800) {
    put(0xc0u | (value >> 6));
  } else {
    if (value < 0x10000) {
      put(0xe0u | (value >> 12));
    } else {
      put(0xf0u | (value >> 18));
      put(0x80u | ((value >> 12) & 0x3fu));
    }
    put(0x80u | ((value >> 6) & 0x3fu));
  }
  put(0x80u | (value & 0x3fu));
}

size_t utf8_valid_prefix(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    // Eight ASCII bytes at a time: most text is mostly ASCII.
    if (text.size() - at >= 8) {
      const auto* from = reinterpret_cast<const std::byte*>(text.data() + at);
      if ((load_le<uint64_t>(from) & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const CodePoint point = decode_utf8(text.substr(at));
    if (point.length == 0) {
      break;
    }
    at += point.length;
  }
  return at;
}

}  // namespace rwkv
