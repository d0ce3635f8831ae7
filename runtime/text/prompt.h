// Prompts as people give them: typed in a shell, where "\n" is two characters, or written in a file
// by an editor, which ends the last line. What the model is fed is decided here and nowhere else.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::edge {

/// `typed` with its escapes replaced: \n \t \r \\ \" \' \xHH (a byte), \uHHHH (two of them for a
/// surrogate pair) and \UHHHHHHHH (a character, as UTF-8). Any other backslash stays as it was
/// typed; each different one is appended to `unknown`, as "\q".
std::string replace_escapes(std::string_view typed, std::vector<std::string>& unknown);

/// The prompt that a file with these bytes means: without the mark at the beginning of UTF-8 files,
/// with lines that end in LF, and without the end of the last line. BadInput, without the name of
/// the file, for UTF-16 and UTF-32, whose bytes no vocabulary knows.
Result<std::string> prompt_in_file(std::string bytes);

/// True if the last character is a space or a tab. Words of vocabularies begin with their space, so
/// models rarely continue well after one.
bool ends_in_blank(std::string_view prompt);

}  // namespace rwkv::edge
