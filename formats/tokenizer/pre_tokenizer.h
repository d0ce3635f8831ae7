// How GPT-2 splits text into pieces, each of which BPE merges by itself, and how it spells bytes as
// printable code points. (openai/gpt-2 src/encoder.py: `pat` and `bytes_to_unicode`.)
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace rwkv {

/// The length of the first piece of `text`, which must be valid UTF-8 and not empty. The piece is
/// the match of GPT-2's regular expression:
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t first_piece(std::string_view text);

/// Bytes in GPT-2's spelling: one printable code point per byte.
std::string spell_bytes(std::string_view bytes);

/// The inverse; nullopt if `spelling` is not UTF-8 or has code points that spell no byte.
std::optional<std::string> unspell_bytes(std::string_view spelling);

}  // namespace rwkv
