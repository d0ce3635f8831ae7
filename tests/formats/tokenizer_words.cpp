// Words between white space, BPE with rules of its own, and both in the metadata of packed files.
#include "formats/tokenizer/pre_tokenizer.h"
#include "formats/tokenizer/tokenizer.h"
#include "formats/tokenizer/vocabulary_metadata.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Ids = std::vector<int32_t>;

Vocabulary words(std::vector<std::string> tokens) {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::WordLevel;
  vocabulary.tokens = std::move(tokens);
  return vocabulary;
}

std::unique_ptr<Tokenizer> make(const Vocabulary& vocabulary) {
  auto tokenizer = make_tokenizer(vocabulary);
  REQUIRE_OK(tokenizer.status());
  return tokenizer.take();
}

Ids encode(const Vocabulary& vocabulary, std::string_view text) {
  Ids ids;
  REQUIRE_OK(make(vocabulary)->encode(text, ids));
  return ids;
}

// The bytes in order, then a few merges.
Vocabulary byte_level() {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::Bpe;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.push_back(spell_bytes(std::string(1, static_cast<char>(byte))));
  }
  vocabulary.tokens.insert(vocabulary.tokens.end(), {"12", "aa",
                                                     "\xc4\xa0"
                                                     "a"});
  vocabulary.merges = {"1 2", "a a", "\xc4\xa0 a"};
  return vocabulary;
}

Vocabulary through_metadata(const Vocabulary& vocabulary) {
  GgufMetadata metadata;
  vocabulary_to_metadata(vocabulary, metadata);
  const auto back = vocabulary_from_metadata(metadata);
  REQUIRE_OK(back.status());
  return back.value();
}

void check_same(const Vocabulary& a, const Vocabulary& b) {
  CHECK(a.kind == b.kind);
  CHECK(a.tokens == b.tokens);
  CHECK(a.merges == b.merges);
  CHECK(a.added == b.added);
  CHECK(a.normalize_nfc == b.normalize_nfc);
  CHECK(a.splits == b.splits);
  CHECK(a.splits_as_gpt2 == b.splits_as_gpt2);
  CHECK(a.add_prefix_space == b.add_prefix_space);
  CHECK(a.unknown == b.unknown);
  CHECK(a.lowercase == b.lowercase);
}

}  // namespace

TEST_CASE("WordTokenizer finds words between white space of any kind", "[tokenizer]") {
  Vocabulary vocabulary = words({"<pad>", "<start>", "t1", "p:3c", "t12"});
  vocabulary.added = {0, 1};
  CHECK(encode(vocabulary, " t1\n\tp:3c\xe3\x80\x80t12 ") == Ids{2, 3, 4});
  // Added tokens are found anywhere, and end a word.
  CHECK(encode(vocabulary, "t1<start>t12<pad><pad>") == Ids{2, 1, 4, 0, 0});
  CHECK(encode(vocabulary, " \n").empty());
  Ids ids = {7};
  const Status status = make(vocabulary)->encode("t1 t2", ids);
  CHECK(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains("\"t2\""));
  CHECK(ids == Ids{7});
  CHECK(make(vocabulary)->encode("t1 \xff", ids).code() == Code::BadInput);
  vocabulary.unknown = 0;
  CHECK(encode(vocabulary, "t1 t2 T1 t1t1") == Ids{2, 0, 0, 0});
  vocabulary.lowercase = true;
  CHECK(encode(vocabulary, "T1 P:3C \xc3\x89") == Ids{2, 3, 0});
}

TEST_CASE("WordTokenizer's lower case knows the Kelvin sign", "[tokenizer]") {
  Vocabulary vocabulary = words({"k", "x"});
  vocabulary.lowercase = true;
  CHECK(encode(vocabulary, "K \xe2\x84\xaa X") == Ids{0, 0, 1});
}

TEST_CASE("WordTokenizer's tokens one after the other are words again", "[tokenizer]") {
  const Vocabulary vocabulary = words({"a", "", "bc"});
  const auto tokenizer = make(vocabulary);
  CHECK(tokenizer->n_vocab() == 3);
  CHECK(tokenizer->token_bytes(1).empty());
  const std::string text = decode(*tokenizer, {0, 2, 2, 0}).value();
  CHECK(text == " a bc bc a");
  CHECK(encode(vocabulary, text) == Ids{0, 2, 2, 0});
}

TEST_CASE("WordTokenizer refuses vocabularies that make no sense", "[tokenizer]") {
  const auto refused = [](const Vocabulary& vocabulary, const char* says) {
    const Status status = make_tokenizer(vocabulary).status();
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains(says));
  };
  refused(words({}), "no tokens");
  refused(words({"a", "a"}), "same bytes");
  refused(words({"\xff"}), "UTF-8");
  Vocabulary vocabulary = words({"a", "\xc3\xa9"});
  vocabulary.lowercase = true;
  refused(vocabulary, "ASCII");
  vocabulary = words({"a"});
  vocabulary.added = {5};
  refused(vocabulary, "below 1");
  vocabulary = words({"a"});
  vocabulary.unknown = 1;
  refused(vocabulary, "unknown words");
  vocabulary = words({"a"});
  vocabulary.merges = {"a a"};
  refused(vocabulary, "merges");
}

TEST_CASE("BpeTokenizer splits by the rules of its vocabulary", "[tokenizer]") {
  Vocabulary vocabulary = byte_level();
  CHECK(encode(vocabulary, "12 a") == Ids{256, 258});
  vocabulary.splits = {{"\\p{N}", true, SplitBehavior::Isolated, false}};
  CHECK(encode(vocabulary, "12 a") == Ids{'1', '2', 258});
  // Without GPT-2's split, merges cross spaces between other pieces.
  vocabulary.splits_as_gpt2 = false;
  vocabulary.splits = {{" ", false, SplitBehavior::MergedWithPrevious, false}};
  CHECK(encode(vocabulary, "12 aa") == Ids{256, ' ', 257});
  vocabulary.splits = {{"\\s+", true, SplitBehavior::Removed, false}};
  CHECK(encode(vocabulary, "12 \n aa") == Ids{256, 257});
}

TEST_CASE("BpeTokenizer puts a space in front if its vocabulary says so", "[tokenizer]") {
  Vocabulary vocabulary = byte_level();
  vocabulary.add_prefix_space = true;
  CHECK(encode(vocabulary, "a") == Ids{258});
  CHECK(encode(vocabulary, " a") == Ids{258});
  CHECK(encode(vocabulary, "").empty());
  // Each text between added tokens is one.
  vocabulary.added = {static_cast<int32_t>(vocabulary.tokens.size())};
  vocabulary.tokens.push_back("<x>");
  CHECK(encode(vocabulary, "a<x>a") == Ids{258, 259, 258});
  // And each piece of the rules before.
  vocabulary.splits = {{"1", false, SplitBehavior::Isolated, false}};
  CHECK(encode(vocabulary, "a1a") == Ids{258, ' ', '1', 258});
}

TEST_CASE("Vocabularies come back from metadata", "[tokenizer]") {
  Vocabulary vocabulary = words({"<pad>", "t1", "", "<end>"});
  vocabulary.added = {0, 3};
  vocabulary.unknown = 0;
  vocabulary.lowercase = true;
  check_same(through_metadata(vocabulary), vocabulary);
  vocabulary.unknown = -1;
  check_same(through_metadata(vocabulary), vocabulary);
  vocabulary = byte_level();
  check_same(through_metadata(vocabulary), vocabulary);
  vocabulary.splits = {{" ?\\p{L}+|\\s+", true, SplitBehavior::MergedWithNext, true},
                       {"inverted x", false, SplitBehavior::Removed, false},
                       {"  y", true, SplitBehavior::Contiguous, false}};
  vocabulary.splits_as_gpt2 = false;
  vocabulary.add_prefix_space = true;
  check_same(through_metadata(vocabulary), vocabulary);
  GgufMetadata metadata;
  vocabulary_to_metadata(vocabulary, metadata);
  // Programs that know GPT-2's split alone must not take it for theirs.
  CHECK(metadata.get_string("tokenizer.ggml.model").value() == "bpe");
  for (const char* rule : {"", "isolated", "isolated word x", "kept regex x"}) {
    metadata.set("press.tokenizer.splits", GgufValue::strings({rule}));
    CHECK(vocabulary_from_metadata(metadata).status().code() == Code::BadInput);
  }
}

TEST_CASE("World's id 0 ends a text unless it is a word", "[tokenizer]") {
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  vocabulary.tokens = {"left ", "right "};
  check_same(through_metadata(vocabulary), vocabulary);
  vocabulary.tokens = {"<s>", "right "};
  check_same(through_metadata(vocabulary), vocabulary);
  vocabulary.tokens = {"", "right "};
  check_same(through_metadata(vocabulary), vocabulary);
}

TEST_CASE("Unused and control tokens of llama.cpp's vocabularies", "[tokenizer]") {
  GgufMetadata metadata;
  metadata.set("tokenizer.ggml.model", GgufValue::string("rwkv"));
  metadata.set("tokenizer.ggml.tokens",
               GgufValue::strings({"<eos>", "a", "[PAD2]", "b", "[PAD4]"}));
  metadata.set("tokenizer.ggml.token_type", GgufValue::i32s({3, 1, 5, 1, 5}));
  auto world = vocabulary_from_metadata(metadata);
  REQUIRE_OK(world.status());
  CHECK(world.value().tokens == std::vector<std::string>{"", "a", "", "b", ""});
  metadata.set("tokenizer.ggml.model", GgufValue::string("gpt2"));
  metadata.set("tokenizer.ggml.merges", GgufValue::strings({}));
  auto bpe = vocabulary_from_metadata(metadata);
  REQUIRE_OK(bpe.status());
  CHECK(bpe.value().tokens == std::vector<std::string>{"<eos>", "a", "", "b", ""});
  CHECK(bpe.value().added == Ids{0});
  metadata.set("tokenizer.ggml.token_type", GgufValue::i32s({3, 1}));
  CHECK(vocabulary_from_metadata(metadata).status().code() == Code::BadInput);
}

}  // namespace rwkv
