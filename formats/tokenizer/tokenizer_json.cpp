// tokenizer.json, as far as byte-level BPE (20B_tokenizer.json) and words between white space need
// it. Unsupported settings that would change the ids are refused, never ignored. The file is not
// trusted: the type of each value is checked before the value is read. How text is split before BPE
// is read by tokenizer_json_splits.cpp.
#include <algorithm>
#include <unordered_set>

#include "formats/base/strict_json.h"
#include "formats/base/utf8.h"
#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/json_parts.h"
#include "formats/tokenizer/tokenizer_json_splits.h"
#include "formats/tokenizer/vocabulary_json.h"
#include "formats/tokenizer/vocabulary_parsers.h"

namespace rwkv {

namespace {

/// What BPE needs of the file's parts around the model.
Status read_bpe_parts(const Json& root, Vocabulary& out) {
  out.kind = TokenizerKind::Bpe;
  RWKV_TRY(check_off(member(root, "model"), "model",
                     {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                      "ignore_merges"}));
  const std::string normalizer = type_of(member(root, "normalizer"));
  if (normalizer != "none" && normalizer != "NFC") {
    return bad_input("normalizer: expected NFC or none, found {}", normalizer);
  }
  out.normalize_nfc = normalizer == "NFC";
  RWKV_TRY(read_pre_tokenizer(member(root, "pre_tokenizer"), out));
  for (const char* const part : {"post_processor", "decoder"}) {
    const std::string type = type_of(member(root, part));
    if (type != "none" && type != "ByteLevel") {
      return bad_input("{}: expected ByteLevel or none, found {}", part, type);
    }
  }
  return {};
}

/// What words between white space need of them.
Status read_word_parts(const Json& root, Vocabulary& out) {
  out.kind = TokenizerKind::WordLevel;
  const std::string normalizer = type_of(member(root, "normalizer"));
  if (normalizer != "none" && normalizer != "Lowercase") {
    return bad_input("normalizer: expected Lowercase or none, found {}", normalizer);
  }
  out.lowercase = normalizer == "Lowercase";
  const std::string pre_tokenizer = type_of(member(root, "pre_tokenizer"));
  if (pre_tokenizer != "WhitespaceSplit") {
    return bad_input("pre_tokenizer: expected WhitespaceSplit, found {}", pre_tokenizer);
  }
  for (const char* const part : {"post_processor", "decoder"}) {
    if (const std::string type = type_of(member(root, part)); type != "none") {
      return bad_input("{}: expected none, found {}", part, type);
    }
  }
  return {};
}

Status read_parts(const Json& root, Vocabulary& out) {
  const std::string type = type_of(member(root, "model"));
  if (type == "BPE") {
    return read_bpe_parts(root, out);
  }
  if (type == "WordLevel") {
    return read_word_parts(root, out);
  }
  return bad_input("model: expected type BPE (byte-level) or WordLevel, found {}", type);
}

Status read_tokens(const Json& vocab, size_t n_tokens, Vocabulary& out) {
  if (!vocab.is_object() || vocab.empty()) {
    return bad_input("model.vocab: expected an object of tokens and ids, found {}",
                     vocab.type_name());
  }
  for (auto entry = vocab.begin(); entry != vocab.end(); ++entry) {
    const int64_t id = id_of(entry.value());
    if (id < 0 || entry.key().empty()) {
      return bad_input("model.vocab \"{}\": expected a token and an id of 0 or more, found {}",
                       escape_token(entry.key()), entry.value().type_name());
    }
    const Status status = place_token(out.tokens, id, entry.key(), n_tokens);
    if (!status.ok()) {
      return status.in("model.vocab");
    }
  }
  return {};
}

Status read_merges(const Json& merges, Vocabulary& out) {
  if (!merges.is_array()) {
    return bad_input("model.merges: expected an array, found {}", merges.type_name());
  }
  for (const Json& merge : merges) {
    // Newer files have ["left", "right"] instead of "left right".
    const bool is_pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (!is_pair && !merge.is_string()) {
      return bad_input("model.merges {}: expected \"left right\", found {}", out.merges.size(),
                       merge.type_name());
    }
    std::string& line = out.merges.emplace_back(text_of(is_pair ? merge[0] : merge));
    if (is_pair) {
      line += ' ';
      line += text_of(merge[1]);
    }
  }
  return {};
}

/// The id of the token for words that are none; -1 without one.
int32_t unknown_token(const Json& model) {
  const std::string name(text_of(member(model, "unk_token")));
  const int64_t id = name.empty() ? -1 : id_of(member(member(model, "vocab"), name.c_str()));
  return id > ByteTrie::kMaxId ? -1 : static_cast<int32_t>(id);
}

/// Tokens with "normalized" should be searched in the text after NFC; we search all of them before
/// it. The result is the same unless NFC creates or destroys the token, which it does not do to
/// ASCII whose last character does not compose with combining marks.
bool is_safe_before_nfc(std::string_view content) {
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  const char last = content.back();
  const bool composes = (last >= 'a' && last <= 'z') || (last >= 'A' && last <= 'Z') ||
                        (last >= '<' && last <= '>') || last == '`';
  return std::all_of(content.begin(), content.end(), is_ascii) && !composes;
}

Status read_added(const Json& token, size_t n_tokens, std::unordered_set<int64_t>& seen,
                  Vocabulary& out) {
  const std::string content(text_of(member(token, "content")));
  const int64_t id = id_of(member(token, "id"));
  if (content.empty() || id < 0) {
    return bad_input("added_tokens {}: expected an object with \"id\" and \"content\"",
                     out.added.size());
  }
  const std::string where = fmt::format("added_tokens \"{}\"", escape_token(content));
  RWKV_TRY(check_off(token, where.c_str(), {"single_word", "lstrip", "rstrip"}));
  if (out.normalize_nfc && !is_off(member(token, "normalized")) && !is_safe_before_nfc(content)) {
    return bad_input("{}: \"normalized\" is supported only where NFC cannot touch the token",
                     where);
  }
  if (out.lowercase && !is_off(member(token, "normalized"))) {
    return bad_input("{}: \"normalized\" is not supported with lower case", where);
  }
  const auto i = static_cast<size_t>(id);
  if (!seen.insert(id).second) {
    return bad_input("{}: id {} is listed twice", where, id);
  }
  // An added token may also be in model.vocab; then its literal text counts.
  if (i < out.tokens.size()) {
    out.tokens[i].clear();
  }
  const Status status = place_token(out.tokens, id, content, n_tokens);
  if (!status.ok()) {
    return status.in(where);
  }
  out.added.push_back(static_cast<int32_t>(id));
  return {};
}

}  // namespace

Result<Vocabulary> parse_tokenizer_json(std::string_view content) {
  const Result<Json> parsed = parse_strict_json(content);
  if (!parsed.ok()) {
    return parsed.status().in("starts like a tokenizer.json");
  }
  const Json& root = parsed.value();
  if (!member(root, "model").is_object()) {
    return parse_token_list(root);
  }
  Vocabulary vocabulary;
  RWKV_TRY(read_parts(root, vocabulary));
  const Json& model = member(root, "model");
  const Json& added = member(root, "added_tokens");
  if (!added.is_null() && !added.is_array()) {
    return bad_input("added_tokens: expected an array, found {}", added.type_name());
  }
  const size_t n_tokens = member(model, "vocab").size() + added.size();
  RWKV_TRY(read_tokens(member(model, "vocab"), n_tokens, vocabulary));
  if (vocabulary.kind == TokenizerKind::Bpe) {
    RWKV_TRY(read_merges(member(model, "merges"), vocabulary));
  } else {
    vocabulary.unknown = unknown_token(model);
  }
  std::unordered_set<int64_t> seen;
  for (const Json& token : added) {
    RWKV_TRY(read_added(token, n_tokens, seen, vocabulary));
  }
  return vocabulary;
}

}  // namespace rwkv
