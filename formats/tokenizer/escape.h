// Tokens as printable text: how the raw bytes of World tokens are written in GGUF string arrays.
// The convention is the one llama.cpp uses for RWKV vocabularies: \n \t \r \\ and \xNN, everything
// else literal.
#pragma once

#include <string>
#include <string_view>

#include "formats/base/status.h"

namespace rwkv {

/// Valid UTF-8 without control characters below U+0080, for any bytes. Bytes that form no valid
/// UTF-8 and control characters become \xNN.
std::string escape_token(std::string_view bytes);

/// The inverse. Also accepts \' and \" (Python's repr, which llama.cpp's converter uses, writes
/// them) and \xNN in capitals; any other escape is BadInput.
Result<std::string> unescape_token(std::string_view text);

}  // namespace rwkv
