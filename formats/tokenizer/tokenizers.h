// The tokenizers that make_tokenizer chooses from, one function per file: world.cpp, byte.cpp,
// bpe.cpp, word_level.cpp. Each checks the part of the vocabulary that it uses. The interface is
// tokenizer.h.
#pragma once

#include <memory>

#include "formats/tokenizer/tokenizer.h"

namespace rwkv {

Result<std::unique_ptr<Tokenizer>> make_world_tokenizer(const Vocabulary& vocabulary);
Result<std::unique_ptr<Tokenizer>> make_byte_tokenizer(const Vocabulary& vocabulary);
Result<std::unique_ptr<Tokenizer>> make_bpe_tokenizer(const Vocabulary& vocabulary);
Result<std::unique_ptr<Tokenizer>> make_word_tokenizer(const Vocabulary& vocabulary);

/// The number of ids up to the last one with a token. BadInput if no id has one, or if there are
/// more ids or bytes than ByteTrie can hold.
Result<size_t> checked_vocabulary_size(const Vocabulary& vocabulary);

}  // namespace rwkv
