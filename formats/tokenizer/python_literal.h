// Python string and bytes literals in the form that repr() writes: the second field of each line of
// a World vocabulary file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/base/status.h"

namespace rwkv {

/// The bytes of `text`, which must be exactly one literal: '...', "...", b'...' or b"...". A str
/// literal gives its UTF-8 (\xNN, \uNNNN, \UNNNNNNNN are code points), a bytes literal its bytes
/// (\xNN is a byte, and anything outside ASCII is refused, as in Python).
Result<std::string> parse_python_literal(std::string_view text);

/// The character that backslash and `c` stand for, if `c` is one of n t r \ ' ".
std::optional<char> simple_escape(char c);

/// The number that the first `n_digits` (at most 8) characters of `text` spell in base 16.
std::optional<uint32_t> hex_number(std::string_view text, size_t n_digits);

}  // namespace rwkv
