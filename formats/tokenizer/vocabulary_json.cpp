#include "formats/tokenizer/vocabulary_json.h"

#include <algorithm>
#include <charconv>

#include "formats/base/utf8.h"
#include "formats/tokenizer/byte_trie.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/vocabulary_parsers.h"

namespace rwkv {

namespace {

constexpr const char* kExpected =
    "expected a tokenizer.json (with an object \"model\"), or tokens by their ids as "
    "{\"1\": \"text\" or [bytes]}";

/// The id that all of `key` spells; -1 for anything else.
int64_t id_in(std::string_view key) {
  int64_t id = -1;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  const bool is_plain = !key.empty() && key.front() >= '0' && key.front() <= '9';
  return is_plain && error == std::errc() && end == key.data() + key.size() ? id : -1;
}

Result<std::string> token_in(const Json& value, std::string_view key) {
  if (value.is_string()) {
    return std::string(text_of(value));
  }
  std::string bytes;
  for (const Json& byte : value) {
    const int64_t number = id_of(byte);
    if (number < 0 || number > 255) {
      return bad_input("id {}: expected bytes from 0 to 255, found {}", key, byte.type_name());
    }
    bytes += static_cast<char>(static_cast<unsigned char>(number));
  }
  return bytes;
}

Result<Vocabulary> ids_to_tokens(const Json& root) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  for (auto entry = root.begin(); entry != root.end(); ++entry) {
    const int64_t id = id_in(entry.key());
    if (id < 0 || !(entry.value().is_string() || entry.value().is_array())) {
      return bad_input("\"{}\": expected an id with its text or an array of its bytes, found {}",
                       escape_token(entry.key().substr(0, 64)), entry.value().type_name());
    }
    RWKV_ASSIGN(std::string token, token_in(entry.value(), entry.key()));
    if (token.size() > ByteTrie::kMaxBytes) {
      return bad_input("id {}: expected a token of at most {} bytes, found {}", id,
                       ByteTrie::kMaxBytes, token.size());
    }
    if (!token.empty()) {
      RWKV_TRY(place_token(vocabulary.tokens, id, std::move(token), root.size()));
    }
  }
  return vocabulary;
}

Result<Vocabulary> characters_to_ids(const Json& root) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  for (auto entry = root.begin(); entry != root.end(); ++entry) {
    const int64_t id = id_of(entry.value());
    const std::string& token = entry.key();
    if (id < 0) {
      return bad_input("\"{}\": expected an id of 0 or more, found {}",
                       escape_token(token.substr(0, 64)), entry.value().type_name());
    }
    if (decode_utf8(token).length != token.size() || token.empty()) {
      return bad_input(
          "a list from tokens to ids, with longer tokens (\"{}\"), does not say how text is split "
          "into them; take the tokenizer.json of the model, or its World vocabulary",
          escape_token(token.substr(0, 64)));
    }
    RWKV_TRY(place_token(vocabulary.tokens, id, token, root.size()));
  }
  return vocabulary;
}

}  // namespace

Result<Vocabulary> parse_token_list(const Json& root) {
  if (!root.is_object() || root.empty()) {
    return bad_input("JSON of another kind; {}", kExpected);
  }
  const auto all = [&](const auto& is_so) { return std::all_of(root.begin(), root.end(), is_so); };
  if (all([](const Json& value) { return value.is_number(); })) {
    return characters_to_ids(root);
  }
  const bool has_ids = id_in(root.begin().key()) >= 0;
  return has_ids ? ids_to_tokens(root)
                 : Result<Vocabulary>(bad_input("JSON of another kind; {}", kExpected));
}

}  // namespace rwkv
