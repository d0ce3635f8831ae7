#include "runtime/text/stop_strings.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

struct Outcome {
  std::string text;
  bool stopped;
  bool operator==(const Outcome&) const = default;
};

Outcome run(StopStrings& matcher, const std::vector<std::string>& pieces) {
  Outcome outcome{"", false};
  for (const std::string& piece : pieces) {
    outcome.text += matcher.push(piece);
  }
  outcome.text += matcher.flush();
  outcome.stopped = matcher.stopped();
  return outcome;
}

/// The definition: the match that ends first, of those the longest.
Outcome expected_of(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (!stop.empty() && std::string_view(text).substr(0, end).ends_with(stop)) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) {
      return {text.substr(0, end - longest), true};
    }
  }
  return {text, false};
}

TEST_CASE("StopStrings finds a stop across every cut", "[stop_strings]") {
  const std::vector<std::string> stops = {"\n\nUser:", "\n\n\n", "END"};
  const std::vector<std::string> texts = {"Hello.\n\nUser: hi",
                                          "one\n\ntwo\n\n\nthree",
                                          "the ENd is not the END, is it",
                                          "\n\nUserx\n\nUser:",
                                          "no stop here\n\nUser",
                                          "EEND",
                                          "\n\n\nUser:",
                                          "",
                                          "END"};
  for (const std::string& text : texts) {
    const Outcome expected = expected_of(text, stops);
    StopStrings matcher(stops);
    for (size_t i = 0; i <= text.size(); ++i) {
      for (size_t j = i; j <= text.size(); ++j) {
        matcher.reset();
        CHECK(run(matcher, {text.substr(0, i), text.substr(i, j - i), text.substr(j)}) == expected);
      }
    }
  }
}

TEST_CASE("StopStrings agrees with its definition on all short texts", "[stop_strings]") {
  const std::vector<std::vector<std::string>> sets = {
      {"aab"}, {"abab"}, {"aa", "aab"}, {"abcb", "bc"}, {"bca", "abc", "cc"}, {"b", "ab", "aab"},
      {}};
  for (const auto& stops : sets) {
    StopStrings matcher(stops);
    size_t n_wrong = 0;
    for (int code = 0; code < 2187; ++code) {  // 3^7 texts over a, b, c
      std::string text;
      std::vector<std::string> bytes;
      for (int i = 0, rest = code; i < 7; ++i, rest /= 3) {
        text += static_cast<char>('a' + rest % 3);
        bytes.emplace_back(1, text.back());
      }
      const Outcome expected = expected_of(text, stops);
      matcher.reset();
      n_wrong += run(matcher, {text}) == expected ? 0u : 1u;
      matcher.reset();
      n_wrong += run(matcher, bytes) == expected ? 0u : 1u;
    }
    CHECK(n_wrong == 0);
  }
}

TEST_CASE("StopStrings holds back only what may become a stop", "[stop_strings]") {
  StopStrings matcher({"stop", "top-hat"});
  CHECK(matcher.push("a st") == "a ");
  CHECK(matcher.push("ay") == "stay");
  CHECK(matcher.push("s") == "");
  CHECK(matcher.push("t") == "");
  CHECK(matcher.push("s") == "st");
  CHECK(matcher.push("") == "");
  CHECK(matcher.push("to") == "");
  CHECK_FALSE(matcher.stopped());
  CHECK(matcher.push("p-hat") == "");
  CHECK(matcher.stopped());
  CHECK(matcher.push("more") == "");
  CHECK(matcher.flush() == "");
  matcher.reset();
  CHECK_FALSE(matcher.stopped());
  CHECK(matcher.push("sto") == "");
  CHECK(matcher.flush() == "sto");
  CHECK(matcher.push("p") == "p");
}

TEST_CASE("StopStrings: the first complete match ends the text", "[stop_strings]") {
  StopStrings matcher({"abcd", "bc", "xbc"});
  CHECK(matcher.push("abcd") == "a");
  CHECK(matcher.stopped());
  matcher.reset();
  CHECK(matcher.push("yxbcd") == "y");
}

TEST_CASE("StopStrings without stops lets everything through", "[stop_strings]") {
  StopStrings matcher({});
  CHECK(matcher.push("anything") == "anything");
  CHECK(matcher.flush() == "");
  CHECK_FALSE(matcher.stopped());
}

TEST_CASE("check_stop_strings refuses an empty string", "[stop_strings]") {
  const std::vector<std::string> good = {"a", "b"};
  const std::vector<std::string> bad = {"a", ""};
  CHECK(check_stop_strings(good).ok());
  CHECK(check_stop_strings({}).ok());
  CHECK(check_stop_strings(bad).code() == Code::Usage);
  CHECK_THAT(check_stop_strings(bad).message(), Catch::Contains("stop string 2 of 2"));
  StopStrings matcher(bad);
  CHECK(matcher.push("bcab") == "bc");
}

}  // namespace
}  // namespace rwkv::edge
