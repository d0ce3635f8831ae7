// The vocabulary and the chat template as llama.cpp's files have them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "formats/container/gguf_metadata.h"
#include "formats/tokenizer/chat_template.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

/// Adds the keys `tokenizer.*` for a model with `n_vocab` rows; ids without a token are filled up,
/// as its converter does. Without a vocabulary, llama.cpp works on token ids only. What it cannot
/// hold of a vocabulary that it can is added to `notes`, a sentence each. BadInput for a vocabulary
/// that it has no tokenizer for, by name. `chat` may be nullptr.
Status append_llama_cpp_vocabulary(const std::optional<Vocabulary>& vocabulary,
                                   const ChatTemplate* chat, uint64_t n_vocab,
                                   GgufMetadata& metadata, std::vector<std::string>& notes);

/// A chat template in Jinja, llama.cpp's language for it; empty for a template without speakers.
/// `has_end_of_text` says whether the text may begin with the token that ends texts.
std::string jinja_of(const ChatTemplate& chat, bool has_end_of_text);

}  // namespace rwkv::press
