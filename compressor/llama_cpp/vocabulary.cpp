#include "compressor/llama_cpp/vocabulary.h"

#include <algorithm>

#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::press {
namespace {

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr int64_t kNormal = 1;
constexpr int64_t kControl = 3;
constexpr int64_t kAdded = 4;
constexpr int64_t kUnused = 5;
constexpr const char* kEndOfText = "<|endoftext|>";
constexpr std::string_view kJoin = ".replace('\\n\\n', '\\n')";

// Tokens as text with their types, and the id that ends a text.
struct Listed {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
  std::optional<uint32_t> end_of_text;

  void add(std::string text, int64_t type) {
    tokens.push_back(std::move(text));
    types.push_back(type);
  }
  void fill_up(uint64_t n) {
    while (tokens.size() < n) {
      add(fmt::format("[PAD{}]", tokens.size()), kUnused);
    }
  }
};

Listed list_world(const Vocabulary& vocabulary, uint64_t n_vocab) {
  Listed listed;
  for (const std::string& bytes : vocabulary.tokens) {
    if (!bytes.empty()) {
      listed.add(escape_token(bytes), kNormal);
    } else if (listed.tokens.empty()) {
      listed.end_of_text = 0;
      listed.add("<s>", kControl);
    } else {
      listed.fill_up(listed.tokens.size() + 1);
    }
  }
  listed.fill_up(n_vocab);
  return listed;
}

// llama.cpp's tokenizer of RWKV takes any tokens.
Listed list_bytes(uint64_t n_vocab) {
  constexpr int kBytes = 256;
  Listed listed;
  for (int byte = 0; byte < kBytes; ++byte) {
    listed.add(escape_token(std::string(1, static_cast<char>(byte))), kNormal);
  }
  listed.fill_up(n_vocab);
  return listed;
}

Result<Listed> list_bpe(const Vocabulary& vocabulary, uint64_t n_vocab) {
  if (!vocabulary.splits.empty() || !vocabulary.splits_as_gpt2 || vocabulary.add_prefix_space) {
    return bad_input(
        "the vocabulary is BPE that splits text by rules of its own, which llama.cpp has no name "
        "for; name one that splits as GPT-2 does with --vocab, or write a checkpoint with "
        "rwkv-press export -o OUT.pth");
  }
  Listed listed;
  for (const std::string& token : vocabulary.tokens) {
    if (token.empty()) {
      listed.fill_up(listed.tokens.size() + 1);
    } else {
      listed.add(token, kNormal);
    }
  }
  for (const int32_t id : vocabulary.added) {
    const bool ends = vocabulary.tokens[static_cast<size_t>(id)] == kEndOfText;
    listed.types[static_cast<size_t>(id)] = ends ? kControl : kAdded;
    if (ends) {
      listed.end_of_text = static_cast<uint32_t>(id);
    }
  }
  if (!listed.end_of_text) {
    return bad_input(
        "the vocabulary has no {}, and llama.cpp would take another token for the end of a text; "
        "name the vocabulary of the model with --vocab",
        kEndOfText);
  }
  listed.fill_up(n_vocab);
  return listed;
}

Result<Listed> list_tokens(const Vocabulary& vocabulary, uint64_t n_vocab) {
  switch (vocabulary.kind) {
    case TokenizerKind::World:
      return list_world(vocabulary, n_vocab);
    case TokenizerKind::Byte:
      return list_bytes(n_vocab);
    case TokenizerKind::Bpe:
      return list_bpe(vocabulary, n_vocab);
    case TokenizerKind::WordLevel:
      break;
  }
  return bad_input(
      "the vocabulary is a list of words ({}), which llama.cpp has no tokenizer for; write a "
      "checkpoint with rwkv-press export -o OUT.pth, or run the packed file with rwkv-edge",
      tokenizer_kind_name(vocabulary.kind));
}

// Text as a literal of Jinja.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    out += c == '\n' ? std::string("\\n") : c == '\'' ? std::string("\\'") : std::string(1, c);
  }
  return out + "'";
}

}  // namespace

std::string jinja_of(const ChatTemplate& chat, bool has_end_of_text) {
  const std::string_view user_end = chat.user_end;
  const std::string_view turn_end = chat.turn_end;
  if (turn_end.empty() || !user_end.starts_with(turn_end)) {
    return "";
  }
  const std::string speaker(user_end.substr(turn_end.size()));
  // Three times: each halves a run of blank lines.
  const std::string_view once = chat.joins_blank_lines ? kJoin : "";
  const std::string join = fmt::format("{0}{0}{0}", once);
  const std::string content = "(message['content']|trim)" + join;
  const auto turn = [&](const char* role, std::string_view begin, std::string_view said,
                        std::string_view end) {
    return fmt::format("if message['role'] == '{}' -%}}{{{{- {} + {} + {} -}}}}", role,
                       quoted(begin), said, quoted(end));
  };
  // The comment is by which programs without Jinja know the template.
  std::string jinja = std::string_view(chat.name) == "world" ? "{#- rwkv-world -#}" : "";
  if (chat.begins_with_end_of_text && has_end_of_text) {
    jinja += "{{- bos_token -}}";
  }
  // Thoughts of earlier answers are left out.
  const std::string answer = "(message['content'].split('</think>')[-1]|trim)" + join;
  jinja += "{%- for message in messages -%}{%- " +
           turn("system", chat.system_begin, content, chat.system_end) + "{%- el" +
           turn("user", chat.user_begin, content, turn_end) + "{%- el" +
           turn("assistant", speaker + " ", answer, turn_end) + "{%- endif -%}{%- endfor -%}";
  jinja += fmt::format("{{%- if add_generation_prompt -%}}{{{{- {} -}}}}{{%- endif -%}}",
                       quoted(speaker + chat.answer_begin));
  return jinja;
}

Status append_llama_cpp_vocabulary(const std::optional<Vocabulary>& vocabulary,
                                   const ChatTemplate* chat, uint64_t n_vocab,
                                   GgufMetadata& metadata, std::vector<std::string>& notes) {
  if (!vocabulary) {
    metadata.set(kModel, GgufValue::string("none"));
    notes.emplace_back("no vocabulary: llama.cpp works on token ids only; name one with --vocab");
    return {};
  }
  RWKV_ASSIGN(Listed listed, list_tokens(*vocabulary, n_vocab));
  if (listed.tokens.size() > n_vocab) {
    return bad_input("the vocabulary has {} tokens for {} rows; name another one with --vocab",
                     listed.tokens.size(), n_vocab);
  }
  const bool is_bpe = vocabulary->kind == TokenizerKind::Bpe;
  metadata.set(kModel, GgufValue::string(is_bpe ? "gpt2" : "rwkv"));
  if (is_bpe) {
    metadata.set("tokenizer.ggml.pre", GgufValue::string("gpt-2"));
    metadata.set("tokenizer.ggml.merges", GgufValue::strings(vocabulary->merges));
    if (vocabulary->normalize_nfc) {
      notes.emplace_back(
          "the vocabulary brings text to NFC first, llama.cpp does not: text in "
          "other forms becomes other tokens");
    }
  }
  const auto turn_end = std::find(listed.tokens.begin(), listed.tokens.end(), "\\n\\n");
  metadata.set("tokenizer.ggml.add_bos_token", GgufValue::boolean(false));
  if (listed.end_of_text) {
    metadata.set("tokenizer.ggml.bos_token_id", GgufValue::u32(*listed.end_of_text));
    metadata.set("tokenizer.ggml.eos_token_id", GgufValue::u32(*listed.end_of_text));
  }
  const std::string jinja = chat != nullptr ? jinja_of(*chat, listed.end_of_text.has_value()) : "";
  if (!jinja.empty()) {
    metadata.set("tokenizer.chat_template", GgufValue::string(jinja));
    const bool ends_in_blank_line = chat->stops.size() == 1 && chat->stops[0] == "\n\n";
    if (ends_in_blank_line && turn_end != listed.tokens.end()) {
      const auto id = static_cast<uint32_t>(turn_end - listed.tokens.begin());
      metadata.set("tokenizer.ggml.eot_token_id", GgufValue::u32(id));
    } else if (!ends_in_blank_line) {
      notes.push_back(fmt::format(
          "answers of chat template {} end before the next speaker, which a GGUF cannot say: give "
          "llama.cpp -r {} and the like",
          chat->name, quoted(escape_token(chat->stops[0]))));
    }
  }
  metadata.set(kTokens, GgufValue::strings(std::move(listed.tokens)));
  metadata.set(kTypes, GgufValue::i32s(std::move(listed.types)));
  return {};
}

}  // namespace rwkv::press
