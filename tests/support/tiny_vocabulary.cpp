// The vocabularies of tiny models.
#include "formats/tokenizer/pre_tokenizer.h"
#include "tests/support/tiny_model.h"

namespace rwkv::test {
namespace {

Vocabulary world_vocabulary() {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  vocabulary.tokens.emplace_back();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
  }
  for (const char* token : {" the", "Hello", "\n\n", "User", ": ", " world", "\xe4\xbd\xa0",
                            "\xe4\xbd", "\xbd\xa0", "\xf0\x9f\x98\x80"}) {
    vocabulary.tokens.emplace_back(token);
  }
  return vocabulary;
}

Vocabulary bpe_vocabulary() {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::Bpe;
  vocabulary.tokens.emplace_back("<|endoftext|>");
  vocabulary.added.push_back(0);
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(spell_bytes(std::string(1, static_cast<char>(byte))));
  }
  vocabulary.tokens.emplace_back("he");
  vocabulary.merges.emplace_back("h e");
  return vocabulary;
}

}  // namespace

Vocabulary tiny_vocabulary(TinyVocabulary kind) {
  switch (kind) {
    case TinyVocabulary::None:
    case TinyVocabulary::Bytes:
      return {};
    case TinyVocabulary::World:
      return world_vocabulary();
    case TinyVocabulary::Bpe:
      return bpe_vocabulary();
    case TinyVocabulary::ZeroBased: {
      Vocabulary vocabulary = world_vocabulary();
      vocabulary.tokens[0] = "zero";
      return vocabulary;
    }
  }
  return {};
}

}  // namespace rwkv::test
