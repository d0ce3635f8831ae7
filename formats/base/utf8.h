// UTF-8, strictly as Unicode defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
// Classes of code points and normalisation live in unicode.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rwkv {

struct CodePoint {
  uint32_t value = 0;
  size_t length = 0;  ///< bytes it takes; 0 if the bytes are no valid code point
};

/// The code point at the start of `text`; length 0 if `text` is empty or starts with invalid UTF-8.
CodePoint decode_utf8(std::string_view text);

/// Appends `value`, which must be a code point that is no surrogate.
void append_utf8(std::string& out, uint32_t value);

/// Whether `value` can be written as UTF-8: at most U+10FFFF and no surrogate.
constexpr bool is_scalar_value(uint32_t value) {
  return value < 0xd800 || (value > 0xdfff && value <= 0x10ffff);
}

/// The length of the longest prefix of `text` that is valid UTF-8.
size_t utf8_valid_prefix(std::string_view text);

inline bool is_valid_utf8(std::string_view text) {
  return utf8_valid_prefix(text) == text.size();
}

}  // namespace rwkv
