// Byte-level BPE: pieces, NFC, merges, added tokens; against reference ids where the data is at
// hand.
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/tokenizer/unicode.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using Ids = std::vector<int32_t>;

namespace {

/// Ids 0..255 are the bytes in order; `more` follow, in GPT-2's spelling.
Vocabulary bpe(const std::vector<std::string>& more, std::vector<std::string> merges) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::Bpe;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(spell_bytes(std::string(1, static_cast<char>(byte))));
  }
  vocabulary.tokens.insert(vocabulary.tokens.end(), more.begin(), more.end());
  vocabulary.merges = std::move(merges);
  return vocabulary;
}

void add(Vocabulary& vocabulary, const std::string& text) {
  vocabulary.added.push_back(static_cast<int32_t>(vocabulary.tokens.size()));
  vocabulary.tokens.push_back(text);
}

Ids encode(const Vocabulary& vocabulary, std::string_view text) {
  auto tokenizer = make_tokenizer(vocabulary);
  REQUIRE_OK(tokenizer.status());
  Ids ids;
  REQUIRE_OK(tokenizer.value()->encode(text, ids));
  return ids;
}

std::string refusal(const Vocabulary& vocabulary) {
  const auto tokenizer = make_tokenizer(vocabulary);
  CHECK((tokenizer.ok() || tokenizer.status().code() == Code::BadInput));
  return tokenizer.ok() ? std::string() : tokenizer.status().message();
}

std::vector<std::string> pieces(std::string_view text) {
  std::vector<std::string> found;
  while (!text.empty()) {
    const size_t length = first_piece(text);
    REQUIRE((length > 0 && length <= text.size()));
    found.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return found;
}

using Pieces = std::vector<std::string>;

}  // namespace

TEST_CASE("Pre-tokenizer splits as GPT-2's regular expression does") {
  CHECK(pieces("Hello world") == Pieces{"Hello", " world"});
  CHECK(pieces("don't we'll'x 'S") == Pieces{"don", "'t", " we", "'ll", "'", "x", " '", "S"});
  CHECK(pieces("a1 23b!! ?") == Pieces{"a", "1", " 23", "b", "!!", " ?"});
  CHECK(pieces("a   b") == Pieces{"a", "  ", " b"});
  CHECK(pieces("a \n\nb") == Pieces{"a", " \n", "\n", "b"});
  CHECK(pieces("a\tb") == Pieces{"a", "\t", "b"});
  CHECK(pieces("a  ") == Pieces{"a", "  "});
  CHECK(pieces(" ") == Pieces{" "});
  CHECK(pieces(" 's") == Pieces{" '", "s"});
}

TEST_CASE("Pre-tokenizer knows Unicode letters, numbers and white space") {
  CHECK(pieces("\xc3\xa9t\xc3\xa9 \xd0\x96") == Pieces{"\xc3\xa9t\xc3\xa9", " \xd0\x96"});
  CHECK(pieces("\xd9\xa1x\xc2\xbd") == Pieces{"\xd9\xa1", "x", "\xc2\xbd"});
  CHECK(pieces("a\xc2\xa0\xe3\x80\x80 b") == Pieces{"a", "\xc2\xa0\xe3\x80\x80", " b"});
  CHECK(char_class(0x200b) == CharClass::Other);
  CHECK(char_class(0x85) == CharClass::Space);
  CHECK(char_class(0x1c) == CharClass::Other);
  CHECK(char_class(0x4e00) == CharClass::Letter);
  CHECK(char_class(0x2160) == CharClass::Number);
  CHECK(char_class(0x10ffff) == CharClass::Other);
}

TEST_CASE("Byte spelling is a bijection") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
  }
  CHECK(unspell_bytes(spell_bytes(all)).value() == all);
  CHECK(spell_bytes(" \n!") == "\xc4\xa0\xc4\x8a!");
  CHECK(!unspell_bytes(" "));
  CHECK(!unspell_bytes("\xe4\xba\xba"));
  CHECK(!unspell_bytes("\xff"));
}

TEST_CASE("NFC composes, reorders and leaves exclusions decomposed") {
  CHECK(to_nfc("e\xcc\x81") == "\xc3\xa9");
  CHECK(to_nfc("\xe2\x84\xab") == "\xc3\x85");                              // angstrom sign
  CHECK(to_nfc("a\xcc\x81\xcc\xa3") == "\xe1\xba\xa1\xcc\x81");             // dot below comes first
  CHECK(to_nfc("a\xcc\x80\xcc\x81") == "\xc3\xa0\xcc\x81");                 // second is blocked
  CHECK(to_nfc("\xe0\xa5\x98") == "\xe0\xa4\x95\xe0\xa4\xbc");              // composition exclusion
  CHECK(to_nfc("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab") == "\xed\x95\x9c");  // Hangul L V T
  CHECK(to_nfc("\xed\x95\x98\xe1\x86\xab") == "\xed\x95\x9c");              // Hangul LV T
  CHECK(to_nfc("\xed\x95\x9c\xe1\x86\xab") == "\xed\x95\x9c\xe1\x86\xab");
  CHECK(to_nfc("\xcc\x81"
               "e") ==
        "\xcc\x81"
        "e");
  CHECK(to_nfc("\xe1\xbe\x82") == "\xe1\xbe\x82");  // chain of three
  CHECK(to_nfc("\xf0\xaf\xa0\x80\n\xef\xa4\x80") == "\xe4\xb8\xbd\n\xe8\xb1\x88");
  CHECK(to_nfc("x\n\ny") == "x\n\ny");
}

TEST_CASE("BpeTokenizer merges by rank, not from the left") {
  const Vocabulary vocabulary = bpe({"ab", "bc", "abc", "aa"}, {"b c", "a b", "a bc", "a a"});
  CHECK(encode(vocabulary, "abc") == Ids{258});
  CHECK(encode(vocabulary, "ab") == Ids{256});
  CHECK(encode(vocabulary, "aaa") == Ids{259, 'a'});
  CHECK(encode(vocabulary, "aaaab") == Ids{259, 'a', 256});
  CHECK(encode(vocabulary, "aab") == Ids{'a', 256});
  CHECK(encode(vocabulary, "cba") == Ids{'c', 'b', 'a'});
  CHECK(encode(vocabulary, "ab c") == Ids{256, ' ', 'c'});
  CHECK(encode(vocabulary, "") == Ids{});
}

TEST_CASE("BpeTokenizer agrees with merging by exhaustive search") {
  const Vocabulary vocabulary =
      bpe({"ab", "ba", "aba", "abab", "bb", "abb"}, {"a b", "b a", "ab a", "aba b", "b b", "ab b"});
  const auto slow = [](std::string_view text) {
    std::vector<std::string> symbols;
    for (const char c : text) {
      symbols.emplace_back(1, c);
    }
    const std::vector<std::pair<std::string, std::string>> rules = {
        {"a", "b"}, {"b", "a"}, {"ab", "a"}, {"aba", "b"}, {"b", "b"}, {"ab", "b"}};
    for (size_t rule = 0; rule < rules.size();) {
      size_t at = 0;
      while (at + 1 < symbols.size() && std::pair(symbols[at], symbols[at + 1]) != rules[rule]) {
        ++at;
      }
      if (at + 1 >= symbols.size()) {
        ++rule;
        continue;
      }
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
      rule = 0;
    }
    return symbols;
  };
  const auto tokenizer = make_tokenizer(vocabulary).take();
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::string text;
    for (uint64_t i = 0; i < seed % 40; ++i) {
      text += test::noise(seed, i) < 0.0f ? 'a' : 'b';
    }
    Ids ids;
    REQUIRE_OK(tokenizer->encode(text, ids));
    std::vector<std::string> symbols;
    for (const int32_t id : ids) {
      symbols.emplace_back(tokenizer->token_bytes(id));
    }
    REQUIRE(symbols == slow(text));
  }
}

TEST_CASE("BpeTokenizer matches added tokens first, leftmost and longest") {
  Vocabulary vocabulary = bpe({"\xc4\xa0\xc4\xa0"}, {"\xc4\xa0 \xc4\xa0"});
  add(vocabulary, "<|end|>");  // 257
  add(vocabulary, "  ");       // 258
  add(vocabulary, "    ");     // 259
  CHECK(encode(vocabulary, "a<|end|>b<|end|") == Ids{'a', 257, 'b', '<', '|', 'e', 'n', 'd', '|'});
  CHECK(encode(vocabulary, "     a") == Ids{259, ' ', 'a'});
  CHECK(encode(vocabulary, "   a") == Ids{258, ' ', 'a'});
  const auto tokenizer = make_tokenizer(vocabulary).take();
  CHECK(decode(*tokenizer, {257, 'x', 258}).value() == "<|end|>x  ");
}

TEST_CASE("BpeTokenizer normalizes only if told to") {
  Vocabulary vocabulary = bpe({}, {});
  CHECK(encode(vocabulary, "e\xcc\x81") == Ids{'e', 0xcc, 0x81});
  vocabulary.normalize_nfc = true;
  CHECK(encode(vocabulary, "e\xcc\x81") == Ids{0xc3, 0xa9});
}

TEST_CASE("BpeTokenizer rejects text that is not UTF-8 and names the offset") {
  const auto tokenizer = make_tokenizer(bpe({}, {})).take();
  Ids ids = {7};
  const Status status = tokenizer->encode("abcdefghij\xff", ids);
  CHECK(status.code() == Code::BadInput);
  CHECK(status.message().find("offset 10") != std::string::npos);
  CHECK(status.message().find("0xff") != std::string::npos);
  CHECK(ids == Ids{7});
}

TEST_CASE("BpeTokenizer names a byte that the vocabulary lacks") {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::Bpe;
  vocabulary.tokens = {"a"};
  const auto tokenizer = make_tokenizer(vocabulary).take();
  Ids ids;
  CHECK(tokenizer->encode("ab", ids).message().find("0x62") != std::string::npos);
  CHECK(ids.empty());
}

TEST_CASE("BpeTokenizer rejects hostile vocabularies") {
  CHECK(refusal(bpe({"ab"}, {"ab"})).find("merge 0") != std::string::npos);
  CHECK(refusal(bpe({"ab"}, {"a  b"})).find("merge 0") != std::string::npos);
  CHECK(refusal(bpe({"ab"}, {" ab"})).find("merge 0") != std::string::npos);
  CHECK(refusal(bpe({"ab"}, {"ab "})).find("merge 0") != std::string::npos);
  CHECK(refusal(bpe({"ab"}, {"a b", "ab c"})).find("\"abc\"") != std::string::npos);
  CHECK(refusal(bpe({"ab"}, {"xy a"})).find("\"xy\"") != std::string::npos);
  CHECK(refusal(bpe({"ab"}, {"a b", "a b"})).find("0 and 1") != std::string::npos);
  CHECK(refusal(bpe({"ab", "ab"}, {})).find("256 and 257") != std::string::npos);
  CHECK(refusal(bpe({"a b"}, {})).find("spelling") != std::string::npos);
  CHECK(refusal(bpe({"\xff"}, {})).find("spelling") != std::string::npos);
  const auto with_added = [](const std::vector<int32_t>& ids, const std::string& token) {
    Vocabulary vocabulary = bpe({token}, {});
    vocabulary.added = ids;
    return vocabulary;
  };
  CHECK(refusal(with_added({-1}, "x y")).find("-1") != std::string::npos);
  CHECK(refusal(with_added({257}, "x y")).find("257") != std::string::npos);
  CHECK(refusal(with_added({256, 256}, "x y")).find("twice") != std::string::npos);
  CHECK(refusal(with_added({256}, "\xff")).find("UTF-8") != std::string::npos);
  CHECK(refusal(with_added({256}, std::string(5000, 'x'))).find("5000") != std::string::npos);
  CHECK(refusal(with_added({256}, "x y")).empty());
  Vocabulary empty;
  empty.kind = TokenizerKind::Bpe;
  CHECK(refusal(empty).find("no tokens") != std::string::npos);
}

TEST_CASE("BpeTokenizer takes long pieces without quadratic time") {
  std::vector<std::string> tokens = {"aa", "aaaa", "aaaaaaaa"};
  const Vocabulary vocabulary = bpe(tokens, {"a a", "aa aa", "aaaa aaaa"});
  const std::string text(800000, 'a');
  const auto start = std::chrono::steady_clock::now();
  CHECK(encode(vocabulary, text) == Ids(100000, 258));
  // Linear takes a fraction of a second even under sanitizers; quadratic would take many minutes.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
}

TEST_CASE("BpeTokenizer gives the reference ids of 20B_tokenizer.json") {
  const auto vocabulary_path = test::test_data("tokenizer/20B_tokenizer.json", "golden 20B cases");
  const auto golden = test::test_data("golden/tokenizer-20b-unofficial.jsonl", "golden 20B cases");
  if (!vocabulary_path || !golden) {
    return;
  }
  const auto vocabulary = read_vocabulary_file(*vocabulary_path);
  REQUIRE_OK(vocabulary.status());
  CHECK(vocabulary.value().kind == TokenizerKind::Bpe);
  CHECK(vocabulary.value().normalize_nfc);
  CHECK(vocabulary.value().merges.size() == 50009);
  const auto tokenizer = make_tokenizer(vocabulary.value()).take();
  CHECK(tokenizer->n_vocab() == 50277);
  std::ifstream lines(*golden);
  size_t n_cases = 0;
  for (std::string line; std::getline(lines, line); ++n_cases) {
    const auto entry = nlohmann::json::parse(line);
    const std::string text = entry["text"].get<std::string>();
    INFO(entry["name"].get<std::string>());
    Ids ids;
    REQUIRE_OK(tokenizer->encode(text, ids));
    REQUIRE(ids == entry["ids"].get<Ids>());
    REQUIRE((decode(*tokenizer, ids).value() == text) == entry["roundtrip"].get<bool>());
  }
  CHECK(n_cases == 32);
}
