// Lists of tokens in JSON without rules of how text is split: ids to tokens, as web-rwkv has the
// World vocabulary, and as early character models had theirs; or characters to ids.
#pragma once

#include "formats/tokenizer/json_parts.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv {

/// {"123": "text" or [bytes]}: longest match, as World's. {"x": 123} is read if every token is one
/// character, and refused otherwise: what splits text into longer tokens is not in such a file.
Result<Vocabulary> parse_token_list(const Json& root);

}  // namespace rwkv
