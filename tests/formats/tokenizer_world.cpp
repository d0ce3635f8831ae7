// The World and Byte tokenizers, UTF-8 and the escaping of tokens; against the official tokenizer's
// ids where the data is at hand.
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/base/utf8.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using Ids = std::vector<int32_t>;

namespace {

Vocabulary world(std::vector<std::string> tokens) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  vocabulary.tokens = std::move(tokens);
  return vocabulary;
}

std::unique_ptr<Tokenizer> make(const Vocabulary& vocabulary) {
  auto tokenizer = make_tokenizer(vocabulary);
  REQUIRE_OK(tokenizer.status());
  return tokenizer.take();
}

Ids encode(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids;
  REQUIRE_OK(tokenizer.encode(text, ids));
  return ids;
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

std::string from_base64(std::string_view text) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text.substr(0, text.find('='))) {
    bits = (bits << 6) | static_cast<uint32_t>(kDigits.find(c));
    n_bits += 6;
    if (n_bits >= 8) {
      n_bits -= 8;
      bytes += static_cast<char>((bits >> n_bits) & 0xff);
    }
  }
  return bytes;
}

/// The real World tokenizer, or null where the data is missing.
std::unique_ptr<Tokenizer> real_world(std::string_view what) {
  const auto path = test::test_data("tokenizer/rwkv_vocab_v20230424.txt", what);
  if (!path) {
    return nullptr;
  }
  auto vocabulary = read_vocabulary_file(*path);
  REQUIRE_OK(vocabulary.status());
  return make(vocabulary.value());
}

void check_case(const Tokenizer& tokenizer, const std::string& bytes, const Ids& wanted) {
  INFO(escape_token(bytes.substr(0, 200)));
  const Ids ids = encode(tokenizer, bytes);
  REQUIRE(ids == wanted);
  const auto decoded = decode(tokenizer, ids);
  REQUIRE_OK(decoded.status());
  REQUIRE(decoded.value() == bytes);
}

}  // namespace

TEST_CASE("WorldTokenizer takes the longest token and falls back to an earlier match") {
  const auto tokenizer = make(world({"", "a", "ab", "abcd", "b", "c", "d"}));
  CHECK(tokenizer->kind() == TokenizerKind::World);
  CHECK(tokenizer->n_vocab() == 7);
  CHECK(encode(*tokenizer, "abcd") == Ids{3});
  CHECK(encode(*tokenizer, "abcab") == Ids{2, 5, 2});
  CHECK(encode(*tokenizer, "") == Ids{});
}

TEST_CASE("WorldTokenizer appends to the ids given and leaves them alone on failure") {
  const auto tokenizer = make(world({"", "a"}));
  Ids ids = {5};
  REQUIRE_OK(tokenizer->encode("aa", ids));
  CHECK(ids == Ids{5, 1, 1});
  const std::string text = std::string(2000, 'a') + "b";
  const Status status = tokenizer->encode(text, ids);
  CHECK(status.code() == Code::BadInput);
  CHECK(status.message().find("0x62") != std::string::npos);
  CHECK(status.message().find("offset 2000") != std::string::npos);
  CHECK(ids == Ids{5, 1, 1});
}

TEST_CASE("WorldTokenizer handles every byte value and zero bytes") {
  std::vector<std::string> tokens = {""};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back(1, static_cast<char>(byte));
  }
  tokens.emplace_back("\0\0", 2);
  tokens.emplace_back("\0\xff\0", 3);
  const auto tokenizer = make(world(tokens));
  CHECK(encode(*tokenizer, std::string_view("\0\0\0\xff\0\0\xff", 7)) == Ids{257, 258, 1, 256});
}

TEST_CASE("WorldTokenizer builds over many tokens with long shared beginnings") {
  std::vector<std::string> tokens = {""};
  std::string prefix;
  for (int i = 0; i < 1000; ++i) {
    prefix += static_cast<char>('a' + i % 3);
    tokens.push_back(prefix);
  }
  for (int i = 0; i < 20000; ++i) {
    tokens.push_back("x" + std::to_string(i));
  }
  const auto tokenizer = make(world(tokens));
  for (size_t id = 1; id < tokens.size(); ++id) {
    REQUIRE(encode(*tokenizer, tokens[id]) == Ids{static_cast<int32_t>(id)});
  }
}

TEST_CASE("WorldTokenizer rejects hostile vocabularies") {
  const auto refused = [](const Vocabulary& vocabulary) {
    const auto tokenizer = make_tokenizer(vocabulary);
    return tokenizer.ok() ? std::string() : tokenizer.status().message();
  };
  CHECK(refused(world({})).find("no tokens") != std::string::npos);
  CHECK(refused(world({"", ""})).find("no tokens") != std::string::npos);
  CHECK(refused(world({"", "x", "y", "x"})).find("1 and 3") != std::string::npos);
  CHECK(refused(world({std::string(2000, 'x')})).find("2000") != std::string::npos);
  Vocabulary with_merges = world({"a"});
  with_merges.merges = {"a a"};
  CHECK(refused(with_merges).find("merges") != std::string::npos);
}

TEST_CASE("WorldTokenizer decodes, and decode names ids outside the vocabulary") {
  const auto tokenizer = make(world({"", "a", "", "b", ""}));
  CHECK(tokenizer->n_vocab() == 4);
  CHECK(decode(*tokenizer, {1, 0, 2, 3}).value() == "ab");
  CHECK(tokenizer->token_bytes(-1).empty());
  CHECK(tokenizer->token_bytes(1000).empty());
  for (const int32_t bad : {-1, 4}) {
    const auto text = decode(*tokenizer, {1, bad});
    CHECK(text.status().code() == Code::BadInput);
    CHECK(text.status().message().find(std::to_string(bad)) != std::string::npos);
  }
}

TEST_CASE("ByteTokenizer maps bytes to their values") {
  const auto tokenizer = make(Vocabulary{});
  CHECK(tokenizer->kind() == TokenizerKind::Byte);
  CHECK(tokenizer->n_vocab() == 256);
  CHECK(encode(*tokenizer, std::string_view("a\0\xff", 3)) == Ids{97, 0, 255});
  CHECK(decode(*tokenizer, {97, 0, 255}).value() == std::string("a\0\xff", 3));
  CHECK(tokenizer->token_bytes(256).empty());
  Vocabulary with_tokens;
  with_tokens.tokens = {"a"};
  CHECK(!make_tokenizer(with_tokens).ok());
}

TEST_CASE("Tokenizer kinds have names that can be read back") {
  for (const auto kind : {TokenizerKind::World, TokenizerKind::Byte, TokenizerKind::Bpe}) {
    CHECK(tokenizer_kind_from_name(tokenizer_kind_name(kind)).value() == kind);
  }
  CHECK(tokenizer_kind_from_name("llama").status().code() == Code::BadInput);
}

TEST_CASE("Utf8 accepts exactly what Unicode allows") {
  for (const char* good :
       {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa9"}) {
    CHECK(is_valid_utf8(good));
  }
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3", "\xe2\x82",
        "\xf0\x9f\x98", "\xc3(", "\xe2\x82("}) {
    CHECK(utf8_valid_prefix(bad) == 0);
    CHECK(utf8_valid_prefix(std::string("0123456789\xc3\xa9") + bad) == 12);
  }
  for (uint32_t value = 0; value <= 0x110000; ++value) {
    if (is_scalar_value(value)) {
      std::string text;
      append_utf8(text, value);
      const CodePoint point = decode_utf8(text + "x");
      REQUIRE((point.value == value && point.length == text.size()));
    }
  }
}

TEST_CASE("Escaped tokens come back as the same bytes and are valid UTF-8") {
  CHECK(escape_token("a\n\t\r\\'\"") == "a\\n\\t\\r\\\\'\"");
  CHECK(escape_token(std::string_view("\0\x1f\x7f\xff", 4)) == "\\x00\\x1f\\x7f\\xff");
  CHECK(escape_token("\xc3\xa9\xc3") == "\xc3\xa9\\xc3");
  CHECK(unescape_token("\\x4A\\'\\\"\\xe9").value() == "J'\"\xe9");
  for (const char* bad : {"\\", "\\x", "\\x1", "\\xg0", "\\u0041", "\\q"}) {
    CHECK(unescape_token(bad).status().code() == Code::BadInput);
  }
  for (uint64_t seed = 0; seed < 500; ++seed) {
    std::string bytes;
    for (uint64_t i = 0; i < seed % 23; ++i) {
      bytes += static_cast<char>(static_cast<int>(test::noise(seed, i) * 128.0f));
    }
    const std::string escaped = escape_token(bytes);
    REQUIRE(is_valid_utf8(escaped));
    REQUIRE(unescape_token(escaped).value() == bytes);
  }
}

TEST_CASE("WorldTokenizer gives the official ids for every golden case") {
  const auto tokenizer = real_world("golden World cases");
  const auto golden = test::test_data("golden/tokenizer-world.jsonl", "golden World cases");
  if (!tokenizer || !golden) {
    return;
  }
  CHECK(tokenizer->n_vocab() == 65530);
  std::ifstream lines(*golden);
  size_t n_cases = 0;
  for (std::string line; std::getline(lines, line); ++n_cases) {
    const auto entry = nlohmann::json::parse(line);
    const std::string bytes = entry.contains("text")
                                  ? entry["text"].get<std::string>()
                                  : from_base64(entry["bytes_b64"].get<std::string>());
    REQUIRE(bytes.size() == entry["n_bytes"].get<size_t>());
    check_case(*tokenizer, bytes, entry["ids"].get<Ids>());
  }
  CHECK(n_cases == 37);
}

TEST_CASE("WorldTokenizer gives the published ids of rwkv_world_cases") {
  const auto tokenizer = real_world("rwkv_world_cases");
  const auto path = test::test_data("tokenizer/rwkv_world_cases.json", "rwkv_world_cases");
  if (!tokenizer || !path) {
    return;
  }
  std::ifstream in(*path);
  const auto cases = nlohmann::json::parse(in);
  for (const auto& entry : cases["text"]) {
    check_case(*tokenizer, entry["text"].get<std::string>(), entry["ids"].get<Ids>());
  }
  for (const auto& entry : cases["bytes"]) {
    check_case(*tokenizer, from_hex(entry["hex"].get<std::string>()), entry["ids"].get<Ids>());
  }
}

TEST_CASE("WorldTokenizer gives the ids of the whole of tinyshakespeare") {
  const auto tokenizer = real_world("tinyshakespeare ids");
  const auto text = test::test_data("text/tinyshakespeare.txt", "tinyshakespeare ids");
  const auto ids = test::test_data("tokenizer/tinyshakespeare.txt.first1115394.world.u16",
                                   "tinyshakespeare ids");
  if (!tokenizer || !text || !ids) {
    return;
  }
  const std::vector<std::byte> raw = test::read_bytes(*ids);
  Ids wanted;
  for (size_t i = 0; i + 1 < raw.size(); i += 2) {
    wanted.push_back(std::to_integer<int32_t>(raw[i]) | std::to_integer<int32_t>(raw[i + 1]) << 8);
  }
  const std::vector<std::byte> bytes = test::read_bytes(*text);
  std::string content(bytes.size(), '\0');
  std::memcpy(content.data(), bytes.data(), bytes.size());
  check_case(*tokenizer, content, wanted);
}
