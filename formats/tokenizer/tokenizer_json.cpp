// tokenizer.json, as far as byte-level BPE needs it (20B_tokenizer.json). Unsupported settings that
// would change the ids are refused, never ignored. The file is not trusted: the type of each value
// is checked before the value is read.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/utf8.h"
#include "formats/tokenizer/vocabulary_parsers.h"

namespace rwkv {

namespace {

using Json = nlohmann::json;

// Everything we need lies at most four levels deep. Deeper values are dropped while parsing, so
// that nesting takes no more memory than the file.
constexpr int kMaxDepth = 8;

/// The member `key`, or a JSON null if `object` is not an object or lacks it.
const Json& member(const Json& object, const char* key) {
  static const Json kMissing;
  if (!object.is_object()) {
    return kMissing;
  }
  const auto found = object.find(key);
  return found == object.end() ? kMissing : *found;
}

std::string_view text_of(const Json& value) {
  const auto* const text = value.get_ptr<const Json::string_t*>();
  return text ? std::string_view(*text) : std::string_view();
}

/// "type" of a part of the file; "none" for null, "?" if it has no type.
std::string type_of(const Json& part) {
  if (part.is_null()) {
    return "none";
  }
  const std::string_view type = text_of(member(part, "type"));
  return type.empty() ? "?" : escape_token(type.substr(0, 64));
}

/// Whether a setting is off: missing, null, false, zero or empty.
bool is_off(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_number() && value.get<double>() == 0.0) ||
         (value.is_string() && text_of(value).empty());
}

Status check_off(const Json& object, const char* where,
                 std::initializer_list<const char*> settings) {
  for (const char* const setting : settings) {
    if (!is_off(member(object, setting))) {
      return bad_input("{}: \"{}\" is set, which is not supported", where, setting);
    }
  }
  return {};
}

Status check_parts(const Json& root) {
  const Json& model = member(root, "model");
  if (type_of(model) != "BPE") {
    return bad_input("model: expected type BPE, found {}; only byte-level BPE is supported",
                     type_of(model));
  }
  RWKV_TRY(check_off(model, "model",
                     {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback",
                      "ignore_merges"}));
  const std::string normalizer = type_of(member(root, "normalizer"));
  if (normalizer != "none" && normalizer != "NFC") {
    return bad_input("normalizer: expected NFC or none, found {}", normalizer);
  }
  const Json& pre_tokenizer = member(root, "pre_tokenizer");
  if (type_of(pre_tokenizer) != "ByteLevel") {
    return bad_input("pre_tokenizer: expected ByteLevel, found {}", type_of(pre_tokenizer));
  }
  RWKV_TRY(check_off(pre_tokenizer, "pre_tokenizer", {"add_prefix_space"}));
  const Json& use_regex = member(pre_tokenizer, "use_regex");
  if (!use_regex.is_null() && is_off(use_regex)) {
    return bad_input("pre_tokenizer: \"use_regex\" is off, which is not supported");
  }
  for (const char* const part : {"post_processor", "decoder"}) {
    const std::string type = type_of(member(root, part));
    if (type != "none" && type != "ByteLevel") {
      return bad_input("{}: expected ByteLevel or none, found {}", part, type);
    }
  }
  return {};
}

/// `value` as an integer, or -1 if it is none.
int64_t id_of(const Json& value) {
  const auto* const id = value.get_ptr<const Json::number_integer_t*>();
  return id ? std::max<int64_t>(*id, -1) : -1;
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
  const Json::parser_callback_t drop_deep = [](int depth, Json::parse_event_t, Json&) {
    return depth <= kMaxDepth;
  };
  const Json root = Json::parse(content.begin(), content.end(), drop_deep, false);
  if (root.is_discarded()) {
    return bad_input("starts like a tokenizer.json but is not valid JSON");
  }
  if (!member(root, "model").is_object()) {
    return bad_input("JSON without an object \"model\"; expected a tokenizer.json");
  }
  RWKV_TRY(check_parts(root));
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::Bpe;
  vocabulary.normalize_nfc = type_of(member(root, "normalizer")) == "NFC";
  const Json& model = member(root, "model");
  const Json& added = member(root, "added_tokens");
  if (!added.is_null() && !added.is_array()) {
    return bad_input("added_tokens: expected an array, found {}", added.type_name());
  }
  const size_t n_tokens = member(model, "vocab").size() + added.size();
  RWKV_TRY(read_tokens(member(model, "vocab"), n_tokens, vocabulary));
  RWKV_TRY(read_merges(member(model, "merges"), vocabulary));
  std::unordered_set<int64_t> seen;
  for (const Json& token : added) {
    RWKV_TRY(read_added(token, n_tokens, seen, vocabulary));
  }
  return vocabulary;
}

}  // namespace rwkv
