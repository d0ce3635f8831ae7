// "pre_tokenizer" of a tokenizer.json with byte-level BPE: how text is split before merging.
#pragma once

#include "formats/tokenizer/json_parts.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv {

/// Fills in splits, splits_as_gpt2 and add_prefix_space. ByteLevel must be the last step; Split,
/// Digits and WhitespaceSplit may stand before it. BadInput names a step that is not supported.
Status read_pre_tokenizer(const Json& pre_tokenizer, Vocabulary& out);

}  // namespace rwkv
