// The vocabulary files that parse_vocabulary (tokenizer.h) tells apart, one parser each.
// Messages do not name the file; the caller adds it.
#pragma once

#include <cstdint>
#include <string_view>

#include "formats/tokenizer/tokenizer.h"

namespace rwkv {

/// Lines "id 'literal' n_bytes" as in rwkv_vocab_v20230424.txt.
Result<Vocabulary> parse_world_vocabulary(std::string_view content);

/// A tokenizer.json of Hugging Face's tokenizers library that holds byte-level BPE or words between
/// white space; or a list of tokens in JSON (parse_token_list).
Result<Vocabulary> parse_tokenizer_json(std::string_view content);

/// Puts `token` at `id`, growing `tokens`; BadInput if the id is taken, not below 2^24, or so far
/// above `n_tokens`, the number of tokens that the file can hold, that the ids between would cost
/// absurd memory.
Status place_token(std::vector<std::string>& tokens, int64_t id, std::string token,
                   size_t n_tokens);

}  // namespace rwkv
