#include "formats/tokenizer/vocabulary_metadata.h"

#include "formats/tokenizer/escape.h"

namespace rwkv {
namespace {

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kTokenType = "tokenizer.ggml.token_type";
constexpr const char* kNfc = "press.tokenizer.normalize_nfc";

// GGUF's token types: 1 normal, 3 control, 4 user defined (added).
constexpr int64_t kNormal = 1;
constexpr int64_t kAdded = 4;

// The end-of-text token has no bytes; llama.cpp's converter writes this text for it.
constexpr std::string_view kEndOfText = "<s>";

Result<Vocabulary> read_world(const GgufMetadata& metadata) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  RWKV_ASSIGN(const auto* tokens, metadata.get_strings(kTokens));
  for (size_t id = 0; id < tokens->size(); ++id) {
    const bool is_end = id == 0 && ((*tokens)[0] == kEndOfText || (*tokens)[0].empty());
    auto bytes = is_end ? Result<std::string>(std::string()) : unescape_token((*tokens)[id]);
    if (!bytes.ok()) {
      return bytes.status().in(fmt::format("{} id {}", kTokens, id));
    }
    vocabulary.tokens.push_back(bytes.take());
  }
  return vocabulary;
}

Result<Vocabulary> read_bpe(const GgufMetadata& metadata) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::Bpe;
  RWKV_ASSIGN(const auto* tokens, metadata.get_strings(kTokens));
  RWKV_ASSIGN(const auto* merges, metadata.get_strings(kMerges));
  vocabulary.tokens = *tokens;
  vocabulary.merges = *merges;
  if (const GgufValue* types = metadata.find(kTokenType)) {
    const auto* values = std::get_if<std::vector<int64_t>>(&types->value);
    if (!values || values->size() != tokens->size()) {
      return bad_input("metadata key '{}': expected {} integers, found {}", kTokenType,
                       tokens->size(), value_to_string(*types));
    }
    for (size_t id = 0; id < values->size(); ++id) {
      if ((*values)[id] != kNormal) {
        vocabulary.added.push_back(static_cast<int32_t>(id));
      }
    }
  }
  if (const GgufValue* nfc = metadata.find(kNfc)) {
    const bool* value = std::get_if<bool>(&nfc->value);
    vocabulary.normalize_nfc = value && *value;
  }
  return vocabulary;
}

}  // namespace

void vocabulary_to_metadata(const Vocabulary& vocabulary, GgufMetadata& metadata) {
  metadata.set(kModel, GgufValue::string(tokenizer_kind_name(vocabulary.kind)));
  switch (vocabulary.kind) {
    case TokenizerKind::Byte:
      return;
    case TokenizerKind::World: {
      std::vector<std::string> tokens;
      tokens.reserve(vocabulary.tokens.size());
      for (const std::string& token : vocabulary.tokens) {
        tokens.push_back(escape_token(token));
      }
      metadata.set(kTokens, GgufValue::strings(std::move(tokens)));
      return;
    }
    case TokenizerKind::Bpe: {
      std::vector<int64_t> types(vocabulary.tokens.size(), kNormal);
      for (const int32_t id : vocabulary.added) {
        types[static_cast<size_t>(id)] = kAdded;
      }
      metadata.set(kPre, GgufValue::string("gpt-2"));
      metadata.set(kTokens, GgufValue::strings(vocabulary.tokens));
      metadata.set(kTokenType, GgufValue::i32s(std::move(types)));
      metadata.set(kMerges, GgufValue::strings(vocabulary.merges));
      metadata.set(kNfc, GgufValue::boolean(vocabulary.normalize_nfc));
      return;
    }
  }
}

bool has_vocabulary(const GgufMetadata& metadata) {
  return metadata.contains(kModel);
}

Result<Vocabulary> vocabulary_from_metadata(const GgufMetadata& metadata) {
  RWKV_ASSIGN(const std::string kind, metadata.get_string(kModel));
  if (kind == tokenizer_kind_name(TokenizerKind::Byte)) {
    return Vocabulary{};
  }
  if (kind == tokenizer_kind_name(TokenizerKind::World)) {
    return read_world(metadata);
  }
  if (kind == tokenizer_kind_name(TokenizerKind::Bpe)) {
    return read_bpe(metadata);
  }
  return bad_input("metadata key '{}': expected rwkv, byte or gpt2, found '{}'", kModel, kind);
}

}  // namespace rwkv
