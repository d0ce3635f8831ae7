// Bytes from outside as text that is safe to show: on a terminal, in a log, in a table. Whatever a
// file or a name brings, nothing here can move the cursor, change colours, hide text or turn its
// direction around. Used where text is printed; stored text is never changed by it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rwkv {

/// Bytes of a text that printable() shows unless told otherwise.
inline constexpr size_t kPrintableBytes = 4096;

/// `bytes` on one line of valid UTF-8: newline, tab and carriage return as \n, \t and \r; other
/// control characters below U+0080 and bytes that are no UTF-8 as \xNN; controls above, characters
/// that nobody sees and those that turn the direction of text as \u{N}. Of more than `limit` bytes
/// the middle is left out, with a note that says how many. Backslashes stay as they are, so names
/// of files read as they were typed and applying it twice changes nothing.
std::string printable(std::string_view bytes, size_t limit = kPrintableBytes);

/// The same for text of several lines: newlines and tabs stay, nothing is left out.
std::string printable_lines(std::string_view text);

/// What a model wrote, for a terminal: control characters other than newline and tab, and those
/// that turn the direction of text, are shown as in printable(); joiners and variation selectors,
/// which emoji and several scripts need, stay. `text` may be a piece of a stream that ends at a
/// character.
std::string printable_stream(std::string_view text);

/// JSON with every character that printable() would not let through as \uNNNN, which means the
/// same to a parser. `json` is what a writer of JSON made: valid UTF-8, such characters in strings.
std::string printable_json(std::string_view json);

}  // namespace rwkv
