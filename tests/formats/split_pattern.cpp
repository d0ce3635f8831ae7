// The patterns that split text before BPE: GPT-2's own against its hand-written form, those of
// newer models against pieces written out, behaviours of splits, and what is refused.
#include "formats/tokenizer/split_pattern.h"

#include <algorithm>
#include <random>

#include "formats/base/utf8.h"
#include "formats/tokenizer/pre_split.h"
#include "formats/tokenizer/pre_tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Pieces = std::vector<std::string>;

constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// As the tokenizer.json files of larger models have it.
constexpr const char* kNewer =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Pieces split(const SplitRule& rule, std::string_view text) {
  const auto compiled = CompiledSplit::compile(rule);
  REQUIRE_OK(compiled.status());
  Pieces pieces;
  REQUIRE_OK(compiled.value().split(text, [&](std::string_view piece) {
    pieces.emplace_back(piece);
    return Status();
  }));
  return pieces;
}

Pieces split(const char* pattern, std::string_view text,
             SplitBehavior behavior = SplitBehavior::Isolated, bool is_inverted = false) {
  return split({pattern, true, behavior, is_inverted}, text);
}

std::string refusal(std::string_view pattern) {
  const Status status = SplitPattern::compile(pattern).status();
  INFO(pattern);
  REQUIRE(status.code() == Code::BadInput);
  return status.message();
}

}  // namespace

TEST_CASE("Split pattern of GPT-2 makes the pieces of the hand-written one", "[tokenizer]") {
  const std::vector<std::string> parts = {" ",
                                          "  ",
                                          "\n",
                                          "\t",
                                          "a",
                                          "Zebra",
                                          "'s",
                                          "'ll",
                                          "'",
                                          "12",
                                          "3",
                                          ".",
                                          "!?",
                                          "\xc3\xa9",
                                          "\xe4\xba\xba",
                                          "\xc2\xa0",
                                          "_",
                                          "\r\n",
                                          "'d",
                                          "-",
                                          "x1",
                                          "\xc2\xbd",
                                          "'S",
                                          "\xe3\x80\x80",
                                          "\xf0\x9f\x98\x80"};
  std::mt19937 draw(3);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t n = 1 + draw() % 12; n > 0; --n) {
      text += parts[draw() % parts.size()];
    }
    Pieces expected;
    for (std::string_view rest = text; !rest.empty();) {
      expected.emplace_back(rest.substr(0, first_piece(rest)));
      rest.remove_prefix(expected.back().size());
    }
    INFO(text);
    REQUIRE(split(kGpt2, text) == expected);
  }
}

TEST_CASE("Split patterns of newer models", "[tokenizer]") {
  CHECK(split(kNewer, "Hello, world's 12345 end.\n\n  Next") ==
        Pieces{"Hello", ",", " world", "'s", " ", "123", "45", " end", ".\n\n", " ", " Next"});
  CHECK(split(kNewer, "It'LL\t(x) a\xc5\xbf'\xc5\xbf") ==
        Pieces{"It", "'LL", "\t", "(x", ")", " a\xc5\xbf", "'\xc5\xbf"});
  CHECK(split(kNewer, " \n \n x  ") == Pieces{" \n \n", " x", "  "});
  CHECK(split("a{2}|b{1,2}c?|(?:d|ef)?g", "aaabbbcdgefgg") ==
        Pieces{"aa", "a", "bb", "bc", "dg", "efg", "g"});
  CHECK(split("[a-c\\-x]+|(?=z)z|[^a]{3,}", "ab-xz123b") == Pieces{"ab-x", "z", "123b"});
}

TEST_CASE("Splits do with matches what their behaviour says", "[tokenizer]") {
  const std::string text = "the-final--countdown";
  CHECK(split("-", text) == Pieces{"the", "-", "final", "-", "-", "countdown"});
  CHECK(split("-", text, SplitBehavior::Removed) == Pieces{"the", "final", "countdown"});
  CHECK(split("-", text, SplitBehavior::Contiguous) ==
        Pieces{"the", "-", "final", "--", "countdown"});
  CHECK(split("-", text, SplitBehavior::MergedWithPrevious) ==
        Pieces{"the-", "final-", "-", "countdown"});
  CHECK(split("-", text, SplitBehavior::MergedWithNext) ==
        Pieces{"the", "-final", "-", "-countdown"});
  CHECK(split("[a-z]+", text, SplitBehavior::Removed, true) == Pieces{"the", "final", "countdown"});
  CHECK(split({"-f", false, SplitBehavior::Isolated, false}, text) ==
        Pieces{"the", "-f", "inal--countdown"});
  for (const SplitBehavior behavior :
       {SplitBehavior::Isolated, SplitBehavior::Removed, SplitBehavior::Contiguous,
        SplitBehavior::MergedWithPrevious, SplitBehavior::MergedWithNext}) {
    CHECK(split_behavior_from_name(split_behavior_name(behavior)).value() == behavior);
  }
  CHECK(split_behavior_from_name("kept").status().code() == Code::BadInput);
}

TEST_CASE("Split patterns that are not understood are refused by name", "[tokenizer]") {
  using Catch::Contains;
  CHECK_THAT(refusal("a\\w"), Contains("'\\\\w'") && Contains("byte 1"));
  CHECK_THAT(refusal("\\p{Lu}"), Contains("byte 0"));
  CHECK_THAT(refusal("(?<=a)b"), Contains("kind of group"));
  CHECK_THAT(refusal("(ab)+"), Contains("repeated group"));
  CHECK_THAT(refusal("(?!a)?"), Contains("repeated group"));
  CHECK_THAT(refusal("a++"), Contains("after a repetition"));
  CHECK_THAT(refusal("a+?"), Contains("after a repetition"));
  CHECK_THAT(refusal("^a"), Contains("'^'"));
  for (const char* pattern : {"(a", "a)", "[a", "[b-a]", "a{2", "a{3,2}", "a{0}", "*a", "\\",
                              "a{99999}", "[[:alpha:]]", "\xff"}) {
    refusal(pattern);
  }
  refusal(std::string(5000, 'a'));
  refusal(std::string(100, '(') + "a" + std::string(100, ')'));
}

TEST_CASE("Split patterns that would take forever give up", "[tokenizer]") {
  const auto pattern = SplitPattern::compile("a*a*a*a*a*b");
  REQUIRE_OK(pattern.status());
  const std::string run(3000, 'a');
  size_t steps = SplitPattern::most_steps(run.size());
  const auto found = pattern.value().find(run, 0, steps);
  CHECK(found.status().code() == Code::BadInput);
  // A long run is no reason to.
  const auto spaces = SplitPattern::compile(kNewer);
  REQUIRE_OK(spaces.status());
  const std::string long_run(300000, ' ');
  steps = SplitPattern::most_steps(long_run.size());
  const auto match = spaces.value().find(long_run, 0, steps);
  REQUIRE_OK(match.status());
  CHECK(match.value().length == long_run.size());
  // Each match is short, but looks at all that follows.
  const auto ahead =
      CompiledSplit::compile({"[\\s\\S](?=[\\s\\S]*)", true, SplitBehavior::Isolated, false});
  REQUIRE_OK(ahead.status());
  size_t n_pieces = 0;
  const Status status = ahead.value().split(long_run, [&](std::string_view) {
    ++n_pieces;
    return Status();
  });
  CHECK(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains("takes too long"));
  CHECK(n_pieces == 0);
}

}  // namespace rwkv
