// Python string and bytes literals, as far as repr() writes them: the second field of each line of
// a World vocabulary file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/base/status.h"

namespace rwkv {

/// The bytes of the literal that `text` is, as a whole: '...', "...", b'...' or b"...". Str
/// literals give their UTF-8 (there \xNN, \uNNNN, \UNNNNNNNN are code points), bytes literals their
/// bytes (there \xNN is a byte, and anything outside ASCII is refused, as Python does).
Result<std::string> parse_python_literal(std::string_view text);

/// What backslash and `c` stand for, if `c` is one of n t r \ ' ".
std::optional<char> simple_escape(char c);

/// The number that the first `n_digits` (at most 8) characters of `text` spell in base 16.
std::optional<uint32_t> hex_number(std::string_view text, size_t n_digits);

}  // namespace rwkv
