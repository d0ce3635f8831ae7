// Vocabulary files: Python literals, the World line format, tokenizer.json, and telling them apart.
#include <nlohmann/json.hpp>

#include "formats/tokenizer/python_literal.h"
#include "formats/tokenizer/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

using namespace rwkv;
using nlohmann::json;

namespace {

/// The message of the refusal, which must be BadInput and name the origin.
std::string refusal(std::string_view content) {
  const auto vocabulary = parse_vocabulary(content, "some.file");
  INFO(content.substr(0, 200));
  REQUIRE(!vocabulary.ok());
  CHECK(vocabulary.status().code() == Code::BadInput);
  CHECK(vocabulary.status().message().rfind("some.file: ", 0) == 0);
  CHECK(vocabulary.status().message().find('\n') == std::string::npos);
  CHECK(test::says_what_to_do(vocabulary.status().message()));
  return vocabulary.status().message();
}

bool mentions(const std::string& message, std::string_view part) {
  INFO(message);
  CHECK(message.find(part) != std::string::npos);
  return message.find(part) != std::string::npos;
}

json small_tokenizer() {
  return json::parse(R"({
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
    "added_tokens": [{"id": 3, "content": "<|x|>", "normalized": false, "special": true}],
    "model": {"type": "BPE", "dropout": null, "unk_token": null,
              "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

}  // namespace

TEST_CASE("Python literal parses every escape that repr writes") {
  const auto parse = [](std::string_view text) {
    const auto bytes = parse_python_literal(text);
    REQUIRE_OK(bytes.status());
    return bytes.value();
  };
  CHECK(parse("'a'") == "a");
  CHECK(parse("\"it's\"") == "it's");
  CHECK(parse("'\\n\\t\\r\\\\\\'\\\"'") == "\n\t\r\\'\"");
  CHECK(parse("'\\x00'") == std::string(1, '\0'));
  CHECK(parse("'\\xe9'") == "\xc3\xa9");
  CHECK(parse("b'\\xe9'") == "\xe9");
  CHECK(parse("b\"\\xE9'\"") == "\xe9'");
  CHECK(parse("'\\u00e9\\u4EBA'") == "\xc3\xa9\xe4\xba\xba");
  CHECK(parse("'\\U0001f600'") == "\xf0\x9f\x98\x80");
  CHECK(parse("'\xe4\xba\xba'") == "\xe4\xba\xba");
  CHECK(parse("''").empty());
  CHECK(parse("' '") == " ");
}

TEST_CASE("Python literal rejects what is no literal") {
  for (const char* bad : {"",          "a",          "b",           "'",
                          "b'",        "'a",         "a'",          "'a\"",
                          "'a'b'",     "'\\'",       "'\\q'",       "'\\x4'",
                          "'\\xzz'",   "'\\u12'",    "'\\ud800'",   "'\\U00110000'",
                          "'\\uDFFF'", "b'\\u0041'", "b'\xc3\xa9'", "'\xff'",
                          "u'a'",      "'\\101'"}) {
    INFO(bad);
    CHECK(parse_python_literal(bad).status().code() == Code::BadInput);
  }
}

TEST_CASE("World vocabulary is read with gaps, both quotes and both line ends") {
  const auto vocabulary =
      parse_vocabulary("1 'a' 1\r\n3 \" '\" 2\r\n4 b'\\xff' 1\r\n\n5 ' \\n ' 3", "x");
  REQUIRE_OK(vocabulary.status());
  CHECK(vocabulary.value().kind == TokenizerKind::World);
  CHECK(vocabulary.value().tokens == std::vector<std::string>{"", "a", "", " '", "\xff", " \n "});
  CHECK(parse_vocabulary("0 'a' 1\n", "x").value().tokens == std::vector<std::string>{"a"});
}

TEST_CASE("World vocabulary rejects bad lines and names them") {
  CHECK(mentions(refusal("1 'a' 1\n2 'b' 2\n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n\n1 'b' 1\n"), "line 3: "));
  CHECK(mentions(refusal("1 'a' 1\nx 'b' 1\n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n-2 'b' 1\n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n2 'b'\n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n2\n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n2 'b' \n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n2 'b' 1x\n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n2 'b 1\n"), "line 2: "));
  CHECK(mentions(refusal("1 'a' 1\n2 '' 0\n"), "line 2: "));
  CHECK(mentions(refusal("16777216 'a' 1\n"), "16777216"));
  CHECK(mentions(refusal("99999999999999999999 'a' 1\n"), "line 1: "));
  CHECK(mentions(refusal("16777215 'a' 1\n"), "unused"));
  CHECK(mentions(refusal("1 '" + std::string(2000, 'x') + "' 2000\n"), "2000"));
}

TEST_CASE("World vocabulary with the same bytes twice is refused by the tokenizer") {
  const auto vocabulary = parse_vocabulary("1 'a' 1\n2 b'a' 1\n", "x");
  REQUIRE_OK(vocabulary.status());
  CHECK(mentions(make_tokenizer(vocabulary.value()).status().message(), "1 and 2"));
}

TEST_CASE("parse_vocabulary rejects other content") {
  for (const std::string& content :
       {std::string(), std::string("hello\n"), std::string("1 a 1\n"), std::string("PK\x03\x04"),
        std::string("[1]"), std::string(100, '\0'), std::string("\n \n"), std::string("12")}) {
    refusal(content);
  }
  mentions(refusal("{\"a\": "), "not valid JSON");
  mentions(refusal("{\"a\": null}"), "model");
}

TEST_CASE("read_vocabulary_file names a missing file and tells kinds by content") {
  const test::ScratchFolder folder;
  CHECK(mentions(read_vocabulary_file(folder.file("none")).status().message(), "none"));
  test::write_text(folder.file("vocabulary.json"), "1 'a' 1\n");
  CHECK(read_vocabulary_file(folder.file("vocabulary.json")).value().kind == TokenizerKind::World);
  test::write_text(folder.file("vocabulary.txt"), " " + small_tokenizer().dump());
  CHECK(read_vocabulary_file(folder.file("vocabulary.txt")).value().kind == TokenizerKind::Bpe);
}

TEST_CASE("tokenizer.json gives tokens, merges and added tokens") {
  json file = small_tokenizer();
  const auto vocabulary = parse_vocabulary(file.dump(), "x");
  REQUIRE_OK(vocabulary.status());
  CHECK(vocabulary.value().kind == TokenizerKind::Bpe);
  CHECK(vocabulary.value().tokens == std::vector<std::string>{"a", "b", "ab", "<|x|>"});
  CHECK(vocabulary.value().merges == std::vector<std::string>{"a b"});
  CHECK(vocabulary.value().added == std::vector<int32_t>{3});
  CHECK(vocabulary.value().normalize_nfc);
  file["model"]["merges"] = json::parse(R"([["a", "b"]])");
  file["normalizer"] = nullptr;
  file.erase("post_processor");
  file["added_tokens"][0]["id"] = 2;  // stands in model.vocab as well
  const auto newer = parse_vocabulary(file.dump(), "x");
  REQUIRE_OK(newer.status());
  CHECK(newer.value().merges == std::vector<std::string>{"a b"});
  CHECK(!newer.value().normalize_nfc);
  CHECK(newer.value().tokens == std::vector<std::string>{"a", "b", "<|x|>"});
}

TEST_CASE("tokenizer.json of an unsupported kind is refused by name") {
  const auto with = [](const char* pointer, const char* value) {
    json file = small_tokenizer();
    file[json::json_pointer(pointer)] = json::parse(value);
    return refusal(file.dump());
  };
  CHECK(mentions(with("/model/type", "\"WordPiece\""), "WordPiece"));
  CHECK(mentions(with("/model/type", "\"Unigram\""), "Unigram"));
  CHECK(mentions(with("/model", "[1]"), "model"));
  CHECK(mentions(with("/model/byte_fallback", "true"), "byte_fallback"));
  CHECK(mentions(with("/model/ignore_merges", "true"), "ignore_merges"));
  CHECK(mentions(with("/model/dropout", "0.1"), "dropout"));
  CHECK(mentions(with("/model/end_of_word_suffix", "\"</w>\""), "end_of_word_suffix"));
  CHECK(mentions(with("/normalizer", R"({"type": "NFKC"})"), "NFKC"));
  CHECK(mentions(with("/normalizer", R"({"type": "Sequence"})"), "Sequence"));
  CHECK(mentions(with("/pre_tokenizer", R"({"type": "Metaspace"})"), "Metaspace"));
  CHECK(mentions(with("/pre_tokenizer", "null"), "none"));
  CHECK(mentions(with("/pre_tokenizer", R"({"type": "Sequence"})"), "pretokenizers"));
  CHECK(mentions(with("/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [7]})"),
                 "ByteLevel"));
  const auto before_bytes = [&](const std::string& step) {
    return with("/pre_tokenizer", (R"({"type": "Sequence", "pretokenizers": [)" + step +
                                   R"(, {"type": "ByteLevel"}]})")
                                      .c_str());
  };
  CHECK(mentions(before_bytes(R"({"type": "Punctuation"})"), "Punctuation"));
  CHECK(mentions(before_bytes(R"({"type": "Split", "behavior": "Isolated"})"), "Regex"));
  CHECK(mentions(
      before_bytes(R"({"type": "Split", "pattern": {"String": "x"}, "behavior": "Doubled"})"),
      "Doubled"));
  CHECK(mentions(
      before_bytes(R"({"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Removed"})"),
      "byte 0"));
  CHECK(mentions(with("/post_processor/type", "\"TemplateProcessing\""), "TemplateProcessing"));
  CHECK(mentions(with("/decoder/type", "\"WordPiece\""), "decoder"));
  CHECK(mentions(with("/added_tokens/0/lstrip", "true"), "lstrip"));
}

TEST_CASE("tokenizer.json with values of the wrong type is refused") {
  const auto with = [](const char* pointer, const char* value) {
    json file = small_tokenizer();
    file[json::json_pointer(pointer)] = json::parse(value);
    return refusal(file.dump());
  };
  for (const char* vocab : {"null", "[]", "{}", "7", R"({"a": "0"})", R"({"a": 1.5})",
                            R"({"a": -1})", R"({"a": 16777216})", R"({"a": 18446744073709551615})",
                            R"({"a": 0, "b": 0})", R"({"": 0})", R"({"a": 9999999})"}) {
    with("/model/vocab", vocab);
  }
  for (const char* merges : {"null", "{}", "[1]", R"([["a"]])", R"([["a", 1]])", "[null]"}) {
    with("/model/merges", merges);
  }
  for (const char* added :
       {"{}", "[1]", "[null]", "[{}]", R"([{"id": 1}])", R"([{"id": "1", "content": "x"}])",
        R"([{"id": 1, "content": 2}])", R"([{"id": -5, "content": "x"}])",
        R"([{"id": 4294967299, "content": "x"}])",
        R"([{"id": 3, "content": "x"}, {"id": 3, "content": "y"}])",
        R"([{"id": 3, "content": "xe", "normalized": true}])"}) {
    with("/added_tokens", added);
  }
  with("/normalizer", "3");
  with("/pre_tokenizer", "\"ByteLevel\"");
  with("/model/type", "3");
}

TEST_CASE("tokenizer.json nested absurdly deep is refused without recursion") {
  const size_t depth = 1000000;
  refusal("{\"model\":" + std::string(depth, '[') + std::string(depth, ']') + "}");
  refusal("{\"model\":" + std::string(depth, '['));
}

TEST_CASE("tokenizer.json: how text is split before BPE") {
  json file = small_tokenizer();
  file["pre_tokenizer"] = json::parse(R"({"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": true},
    {"type": "Split", "pattern": {"Regex": " ?\\p{L}+"}, "behavior": "MergedWithNext", "invert": true},
    {"type": "Split", "pattern": {"String": "ab"}, "behavior": "Removed", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": true, "use_regex": false}]})");
  const auto vocabulary = parse_vocabulary(file.dump(), "f");
  REQUIRE_OK(vocabulary.status());
  const std::vector<SplitRule> expected = {{"\\p{N}", true, SplitBehavior::Isolated, false},
                                           {" ?\\p{L}+", true, SplitBehavior::MergedWithNext, true},
                                           {"ab", false, SplitBehavior::Removed, false}};
  CHECK(vocabulary.value().splits == expected);
  CHECK(vocabulary.value().add_prefix_space);
  CHECK_FALSE(vocabulary.value().splits_as_gpt2);
}

TEST_CASE("tokenizer.json: words between white space") {
  json file = json::parse(R"({
    "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "WhitespaceSplit"},
    "added_tokens": [{"id": 0, "content": "<pad>", "normalized": false}],
    "model": {"type": "WordLevel", "unk_token": "<pad>", "vocab": {"<pad>": 0, "t1": 1, "p:3c": 2}}})");
  const auto vocabulary = parse_vocabulary(file.dump(), "f");
  REQUIRE_OK(vocabulary.status());
  CHECK(vocabulary.value().kind == TokenizerKind::WordLevel);
  CHECK(vocabulary.value().tokens == std::vector<std::string>{"<pad>", "t1", "p:3c"});
  CHECK(vocabulary.value().added == std::vector<int32_t>{0});
  CHECK(vocabulary.value().unknown == 0);
  CHECK(vocabulary.value().lowercase);
  const auto with = [&](const char* pointer, const char* value) {
    json changed = file;
    changed[json::json_pointer(pointer)] = json::parse(value);
    return refusal(changed.dump());
  };
  CHECK(mentions(with("/normalizer/type", "\"NFKC\""), "NFKC"));
  CHECK(mentions(with("/pre_tokenizer/type", "\"Whitespace\""), "WhitespaceSplit"));
  CHECK(mentions(with("/decoder", R"({"type": "Metaspace"})"), "Metaspace"));
  CHECK(mentions(with("/added_tokens/0/normalized", "true"), "normalized"));
}

TEST_CASE("JSON of tokens by their ids is a World vocabulary") {
  const auto vocabulary =
      parse_vocabulary(R"({"1": "a", "3": [226, 130], "2": "ab\u00e9", "5": "", "4": [0]})", "f");
  REQUIRE_OK(vocabulary.status());
  CHECK(vocabulary.value().kind == TokenizerKind::World);
  CHECK(vocabulary.value().tokens ==
        std::vector<std::string>{"", "a", "ab\xc3\xa9", "\xe2\x82", std::string(1, '\0')});
  // Characters by themselves need no rule of how text is split.
  const auto characters = parse_vocabulary(R"({"a": 1, "\u00e9": 0, "\n": 2})", "f");
  REQUIRE_OK(characters.status());
  CHECK(characters.value().tokens == std::vector<std::string>{"\xc3\xa9", "a", "\n"});
  CHECK(mentions(refusal(R"({"a": 1, "ab": 2})"), "tokenizer.json"));
  CHECK(mentions(refusal(R"({"a": 1, "b": -2})"), "id of 0 or more"));
  CHECK(mentions(refusal(R"({"1": "a", "x": "b"})"), "\"x\""));
  CHECK(mentions(refusal(R"({"1": "a", "2": [256]})"), "bytes"));
  CHECK(mentions(refusal(R"({"1": "a", "2": [1, "b"]})"), "bytes"));
  CHECK(mentions(refusal(R"({"1": "a", "2": {"b": 1}})"), "object"));
  CHECK(mentions(refusal(R"({"1": "a", "999999999": "b"})"), "999999999"));
  CHECK(mentions(refusal(R"({"version": "1.0"})"), "another kind"));
  CHECK(mentions(refusal("{}"), "another kind"));
}
