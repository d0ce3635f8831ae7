// A vocabulary inside a packed file, under GGUF's tokenizer.ggml.* keys, where other tools look for
// it.
#pragma once

#include "formats/container/gguf_metadata.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv {

/// Adds the keys of `vocabulary` to `metadata`.
void vocabulary_to_metadata(const Vocabulary& vocabulary, GgufMetadata& metadata);

/// True if there is one.
bool has_vocabulary(const GgufMetadata& metadata);

/// Reads it back, from our files or from those made for llama.cpp. BadInput names the key.
Result<Vocabulary> vocabulary_from_metadata(const GgufMetadata& metadata);

}  // namespace rwkv
