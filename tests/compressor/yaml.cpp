// YAML from outside: what would be read otherwise than it looks, and what would grow.
#include "compressor/options/yaml.h"

#include <chrono>

#include "compressor/recipe/recipe.h"
#include "compressor/sweep/settings.h"
#include "compressor/train/config.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using Catch::Contains;

namespace {

std::string refused(const std::string& text) {
  const auto node = press::load_yaml(text);
  INFO(text.substr(0, 200));
  REQUIRE_FALSE(node.ok());
  CHECK(node.status().code() == Code::Usage);
  CHECK(node.status().message().find('\n') == std::string::npos);
  return node.status().message();
}

// A list of ten aliases to a list of ten aliases, and so on.
std::string bomb(int levels) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < levels; ++i) {
    text += fmt::format("a{}: &a{} [", i, i);
    for (int j = 0; j < 10; ++j) {
      text += fmt::format("{}*a{}", j == 0 ? "" : ", ", i - 1);
    }
    text += "]\n";
  }
  return text;
}

}  // namespace

TEST_CASE("A key that occurs twice is refused with both lines, wherever it stands", "[yaml]") {
  CHECK(refused("a: 1\nb: 2\na: 3\n") ==
        "key 'a' occurs twice in a map (lines 1 and 3); remove one");
  CHECK_THAT(refused("a: 1\n\"a\": 2\n"), Contains("(lines 1 and 2)"));
  CHECK_THAT(refused("a: {b: {c: 1,\n d: 2,\n c: 3}}\n"), Contains("'c'") && Contains("1 and 3"));
  CHECK_THAT(refused("- - a: 1\n    b: 1\n    a: 1\n"), Contains("'a'") && Contains("1 and 3"));
  CHECK_THAT(refused("[{x: 1, y: 2}, {x: 1,\nx: 2}]"), Contains("'x'") && Contains("1 and 2"));
  CHECK_THAT(refused("&k a: 1\n*k : 2\n"), Contains("'a'") && Contains("1 and 2"));
  CHECK_THAT(refused("a: &m {p: 1}\nb: *m\na: *m\n"), Contains("'a'") && Contains("1 and 3"));
  CHECK_THAT(refused("~: 1\n~ : 2\n"), Contains("occurs twice"));
  CHECK_THAT(refused("\"\\e[2J\": 1\n\"\\e[2J\": 1\n"), Contains("'\\x1b[2J'"));
  CHECK_THAT(refused("base: &b {x: 1}\nc: {<<: *b, y: 2}\n"),
             Contains("merge keys") && Contains("line 2"));
  CHECK_THAT(refused("? [a]\n: 1\n"), Contains("expected a text as key"));
  CHECK_THAT(refused("a: 1\n---\nb: 2\n"), Contains("another") && Contains("line"));
  // The same key in different maps, also by an alias, is no repetition.
  for (const char* text :
       {"a: {x: 1}\nb: {x: 1}\n", "- x: 1\n- x: 2\n", "a: &m {x: 1}\nb: *m\n", "a: a\nb: a\n", "",
        "a: [b, b]\n", "--- {a: 1}\n...\n", "x: {}\ny: ~\n"}) {
    INFO(text);
    REQUIRE_OK(press::load_yaml(text).status());
  }
}

TEST_CASE("Recipes, sweeps and trainings refuse keys that occur twice", "[yaml]") {
  const auto message = [](const auto& result) { return std::string(result.status().message()); };
  CHECK_THAT(message(press::parse_recipe("stages:\n  - quantize: {codec: f16,\n    codec: f32}\n",
                                         "r.yaml", {})),
             Contains("r.yaml: key 'codec'") && Contains("(lines 2 and 3)"));
  CHECK_THAT(message(press::parse_recipe("stages: []\nstages: []\n", "r.yaml", {})),
             Contains("(lines 1 and 2)"));
  CHECK_THAT(message(press::parse_recipe("stages: [quantize]", "r.yaml",
                                         std::vector<std::string>{"quantize.codec={a: 1, a: 2}"})),
             Contains("'a' occurs twice"));
  CHECK_THAT(message(press::parse_sweep("preset: int8\naxes: {quantize.codec: [f16]}\naxes: {}\n",
                                        "s.yaml")),
             Contains("s.yaml: key 'axes'") && Contains("(lines 2 and 3)"));
  CHECK_THAT(
      message(press::parse_train_config("train:\n  lr: 1\n  steps: 2\n  lr: 2\n", "t.yaml", {})),
      Contains("t.yaml: key 'lr'") && Contains("(lines 2 and 4)"));
}

TEST_CASE("YAML that would grow is refused before it does", "[yaml]") {
  REQUIRE_OK(press::load_yaml(bomb(4)).status());
  CHECK_THAT(refused(bomb(6)), Contains("aliases written out"));
  CHECK_THAT(refused(bomb(60)), Contains("aliases written out"));
  CHECK_THAT(refused("a: &x [*x]\n"), Contains("stands in what it means"));
  CHECK_THAT(refused("a: &x {b: {c: *x}}\n"), Contains("stands in what it means"));
  // Few values, but long ones.
  std::string texts = "a: &a " + std::string(100'000, 'x') + "\nb: [";
  for (int i = 0; i < 100; ++i) {
    texts += "*a, ";
  }
  CHECK_THAT(refused(texts + "]\n"), Contains("bytes with aliases"));
  // Levels, as they stand and by aliases.
  std::string deep = "x";
  for (int i = 0; i < 100; ++i) {
    deep = "[" + deep + "]";
  }
  CHECK_THAT(refused(deep), Contains("levels"));
  std::string chain = "a0: &a0 [x]\n";
  for (int i = 1; i < 100; ++i) {
    chain += fmt::format("a{}: &a{} [*a{}]\n", i, i, i - 1);
  }
  CHECK_THAT(refused(chain), Contains("levels"));
}

TEST_CASE("A mebibyte of any YAML is read or refused in seconds", "[yaml]") {
  const auto repeated = [](const std::string& text) {
    std::string all;
    while (all.size() < (1 << 20)) {
      all += text;
    }
    return all;
  };
  for (const std::string& unit :
       {std::string("["),        std::string("{"),     std::string("? "),
        std::string("- "),       std::string("&a "),   std::string("*a, "),
        std::string("a: "),      std::string("!!x "),  std::string("\""),
        std::string("'"),        std::string("a\n"),   std::string("- a\n"),
        std::string("# c\n"),    std::string("---\n"), std::string("%YAML 1.2\n"),
        std::string("\t"),       std::string("|\n"),   std::string("[a, "),
        std::string("{a: "),     std::string("\xff"),  std::string(1, '\0'),
        std::string("a,"),       std::string("\\"),    std::string("[]"),
        std::string(">-\n  a\n")}) {
    const auto start = std::chrono::steady_clock::now();
    try {
      static_cast<void>(press::load_yaml(repeated(unit)).ok());
    } catch (const YAML::Exception&) {
      // That is an answer too.
    }
    const auto took = std::chrono::steady_clock::now() - start;
    INFO(unit);
    CHECK(took < std::chrono::seconds(10));
  }
}
