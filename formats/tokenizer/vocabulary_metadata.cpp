#include "formats/tokenizer/vocabulary_metadata.h"

#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/pre_split.h"

namespace rwkv {
namespace {

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kTokenType = "tokenizer.ggml.token_type";
constexpr const char* kNfc = "press.tokenizer.normalize_nfc";
constexpr const char* kSplits = "press.tokenizer.splits";
constexpr const char* kGpt2Split = "press.tokenizer.splits_as_gpt2";
constexpr const char* kPrefixSpace = "press.tokenizer.add_prefix_space";
constexpr const char* kLowercase = "press.tokenizer.lowercase";
constexpr const char* kUnknown = "tokenizer.ggml.unknown_token_id";

// BPE whose text is split in another way than GPT-2's has another name, so that programs which know
// only GPT-2's way refuse it.
constexpr const char* kOtherBpe = "bpe";

// GGUF's token types: 1 normal, 2 unknown, 3 control, 4 user defined (added), 5 unused.
constexpr int64_t kNormal = 1;
constexpr int64_t kControl = 3;
constexpr int64_t kAdded = 4;
// llama.cpp's converter fills ids without a token with [PAD12] and the like, of this type.
constexpr int64_t kUnused = 5;

// The end-of-text token has no bytes; llama.cpp's converter writes this text for it.
constexpr std::string_view kEndOfText = "<s>";

// The type of each of `n_tokens` tokens; all normal if the key is missing.
Result<std::vector<int64_t>> read_types(const GgufMetadata& metadata, size_t n_tokens) {
  const GgufValue* types = metadata.find(kTokenType);
  if (!types) {
    return std::vector<int64_t>(n_tokens, kNormal);
  }
  const auto* values = std::get_if<std::vector<int64_t>>(&types->value);
  if (!values || values->size() != n_tokens) {
    return bad_input("metadata key '{}': expected {} integers, found {}", kTokenType, n_tokens,
                     value_to_string(*types));
  }
  return *values;
}

Result<Vocabulary> read_world(const GgufMetadata& metadata) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  RWKV_ASSIGN(const auto* tokens, metadata.get_strings(kTokens));
  RWKV_ASSIGN(const std::vector<int64_t> types, read_types(metadata, tokens->size()));
  for (size_t id = 0; id < tokens->size(); ++id) {
    const bool is_end = id == 0 && ((*tokens)[0] == kEndOfText || types[0] == kControl);
    auto bytes = is_end || types[id] == kUnused ? Result<std::string>(std::string())
                                                : unescape_token((*tokens)[id]);
    if (!bytes.ok()) {
      return bytes.status().in(fmt::format("{} id {}", kTokens, id));
    }
    vocabulary.tokens.push_back(bytes.take());
  }
  return vocabulary;
}

// False if the key is missing or of another type.
bool flag(const GgufMetadata& metadata, const char* key) {
  const GgufValue* value = metadata.find(key);
  const bool* flag = value ? std::get_if<bool>(&value->value) : nullptr;
  return flag && *flag;
}

// A rule as one string: "isolated regex PATTERN", "removed inverted text PATTERN".
std::string to_text(const SplitRule& rule) {
  return fmt::format("{} {}{} {}", split_behavior_name(rule.behavior),
                     rule.is_inverted ? "inverted " : "", rule.is_regex ? "regex" : "text",
                     rule.pattern);
}

Result<SplitRule> rule_from(std::string_view text) {
  SplitRule rule;
  const auto take = [&text](std::string_view word) {
    const bool is_next = text.starts_with(word) && text.substr(word.size()).starts_with(' ');
    text.remove_prefix(is_next ? word.size() + 1 : 0);
    return is_next;
  };
  const std::string_view name = text.substr(0, text.find(' '));
  RWKV_ASSIGN(rule.behavior, split_behavior_from_name(name));
  take(name);
  rule.is_inverted = take("inverted");
  rule.is_regex = take("regex");
  if (!rule.is_regex && !take("text")) {
    return bad_input("expected regex or text and a pattern, found \"{}\"",
                     escape_token(text.substr(0, 64)));
  }
  rule.pattern = text;
  return rule;
}

Status read_splits(const GgufMetadata& metadata, Vocabulary& vocabulary) {
  RWKV_ASSIGN(const auto* splits, metadata.get_strings(kSplits));
  for (const std::string& text : *splits) {
    auto rule = rule_from(text);
    RWKV_TRY(rule.status().in(kSplits));
    vocabulary.splits.push_back(rule.take());
  }
  RWKV_ASSIGN(vocabulary.splits_as_gpt2, metadata.get_bool(kGpt2Split));
  RWKV_ASSIGN(vocabulary.add_prefix_space, metadata.get_bool(kPrefixSpace));
  return {};
}

// Tokens, and which of them are added.
Status read_tokens(const GgufMetadata& metadata, Vocabulary& vocabulary) {
  RWKV_ASSIGN(const auto* tokens, metadata.get_strings(kTokens));
  vocabulary.tokens = *tokens;
  RWKV_ASSIGN(const std::vector<int64_t> types, read_types(metadata, tokens->size()));
  for (size_t id = 0; id < types.size(); ++id) {
    if (types[id] == kUnused) {
      vocabulary.tokens[id].clear();
    } else if (types[id] != kNormal) {
      vocabulary.added.push_back(static_cast<int32_t>(id));
    }
  }
  return {};
}

Result<Vocabulary> read_bpe(const GgufMetadata& metadata) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::Bpe;
  RWKV_TRY(read_tokens(metadata, vocabulary));
  RWKV_ASSIGN(const auto* merges, metadata.get_strings(kMerges));
  vocabulary.merges = *merges;
  vocabulary.normalize_nfc = flag(metadata, kNfc);
  return vocabulary;
}

Result<Vocabulary> read_words(const GgufMetadata& metadata) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::WordLevel;
  RWKV_TRY(read_tokens(metadata, vocabulary));
  vocabulary.lowercase = flag(metadata, kLowercase);
  if (metadata.contains(kUnknown)) {
    RWKV_ASSIGN(const uint64_t id, metadata.get_u64(kUnknown));
    if (id >= vocabulary.tokens.size()) {
      return bad_input("metadata key '{}': expected an id below {}, found {}", kUnknown,
                       vocabulary.tokens.size(), id);
    }
    vocabulary.unknown = static_cast<int32_t>(id);
  }
  return vocabulary;
}

// Tokens as they are, with their types.
void write_tokens(const Vocabulary& vocabulary, GgufMetadata& metadata) {
  std::vector<int64_t> types(vocabulary.tokens.size(), kNormal);
  for (const int32_t id : vocabulary.added) {
    types[static_cast<size_t>(id)] = kAdded;
  }
  metadata.set(kTokens, GgufValue::strings(vocabulary.tokens));
  metadata.set(kTokenType, GgufValue::i32s(std::move(types)));
}

void write_bpe(const Vocabulary& vocabulary, GgufMetadata& metadata) {
  const bool as_gpt2 =
      vocabulary.splits.empty() && vocabulary.splits_as_gpt2 && !vocabulary.add_prefix_space;
  if (as_gpt2) {
    metadata.set(kPre, GgufValue::string("gpt-2"));
  }
  write_tokens(vocabulary, metadata);
  metadata.set(kMerges, GgufValue::strings(vocabulary.merges));
  metadata.set(kNfc, GgufValue::boolean(vocabulary.normalize_nfc));
  if (as_gpt2) {
    return;
  }
  std::vector<std::string> splits;
  for (const SplitRule& rule : vocabulary.splits) {
    splits.push_back(to_text(rule));
  }
  metadata.set(kModel, GgufValue::string(kOtherBpe));
  metadata.set(kSplits, GgufValue::strings(std::move(splits)));
  metadata.set(kGpt2Split, GgufValue::boolean(vocabulary.splits_as_gpt2));
  metadata.set(kPrefixSpace, GgufValue::boolean(vocabulary.add_prefix_space));
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
      // Id 0 may be a word, and even this one.
      if (!tokens.empty() && tokens[0] == kEndOfText) {
        tokens[0].replace(0, 1, "\\x3c");
      }
      metadata.set(kTokens, GgufValue::strings(std::move(tokens)));
      return;
    }
    case TokenizerKind::Bpe:
      write_bpe(vocabulary, metadata);
      return;
    case TokenizerKind::WordLevel:
      write_tokens(vocabulary, metadata);
      metadata.set(kLowercase, GgufValue::boolean(vocabulary.lowercase));
      if (vocabulary.unknown >= 0) {
        metadata.set(kUnknown, GgufValue::u32(static_cast<uint32_t>(vocabulary.unknown)));
      }
      return;
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
  if (kind == kOtherBpe) {
    RWKV_ASSIGN(Vocabulary vocabulary, read_bpe(metadata));
    RWKV_TRY(read_splits(metadata, vocabulary));
    return vocabulary;
  }
  if (kind == tokenizer_kind_name(TokenizerKind::WordLevel)) {
    return read_words(metadata);
  }
  return bad_input(
      "metadata key '{}': expected rwkv, byte, gpt2, bpe or wordlevel, found '{}'; take "
      "the original checkpoint and its vocabulary",
      kModel, escape_token(std::string_view(kind).substr(0, 64)));
}

}  // namespace rwkv
