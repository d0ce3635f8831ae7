// Properties of code points that the GPT-2 pre-tokenizer and NFC need. Tables come from
// unicode_tables.inc, which a script generates; UTF-8 itself is in utf8.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace rwkv {

enum class CharClass : uint8_t { Other = 0, Letter = 1, Number = 2, Space = 3 };

/// \p{L}, \p{N}, \s (White_Space) or none of them.
CharClass char_class(uint32_t code_point);

/// False if a quick look at the bytes shows that NFC cannot change `text`; true means "perhaps".
bool may_change_in_nfc(std::string_view text);

/// `text`, which must be valid UTF-8, in normalisation form C.
std::string to_nfc(std::string_view text);

}  // namespace rwkv
