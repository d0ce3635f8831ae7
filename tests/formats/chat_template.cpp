// Which chat template fits a model, and how messages stand in a turn.
#include "formats/tokenizer/chat_template.h"

#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using Catch::Contains;

namespace {

constexpr size_t kWorldTokens = 65530;

std::string chosen(std::optional<TokenizerKind> vocabulary, size_t n_tokens,
                   const std::string& name) {
  const std::string names[] = {name};
  return chat_template_for(vocabulary, n_tokens, names).name;
}

}  // namespace

TEST_CASE("The chat template is found from the vocabulary and the model's name") {
  for (const char* name : {"rwkv7-g1-0.1b-20250307-ctx4096", "RWKV7-G1a2-1.5B", "rwkv7-g0a-7.2b",
                           "rwkv7-g1b-2.9b.pth", "g1", "rwkv7_G1e"}) {
    CHECK(chosen(TokenizerKind::World, kWorldTokens, name) == "g1");
  }
  for (const char* name :
       {"RWKV-x070-World-0.4B", "big1-model", "mag1c", "g10x", "gguf", "", "g", "rwkv-g1abc"}) {
    INFO(name);
    CHECK(chosen(TokenizerKind::World, kWorldTokens, name) == "world");
  }
  CHECK(chosen(TokenizerKind::World, 500, "rwkv7-g1") == "none");
  CHECK(chosen(TokenizerKind::Bpe, kWorldTokens, "rwkv7-g1") == "none");
  CHECK(chosen(std::nullopt, 0, "rwkv7-g1") == "none");
}

TEST_CASE("Messages stand in a turn without blank lines, or as they were typed") {
  const auto form = [](const char* name) {
    const auto found = chat_template_named(name, "--template");
    REQUIRE_OK(found.status());
    return found.value();
  };
  CHECK(form("world")->message(" \n one\n\n\ntwo\n three \n") == "one\ntwo\n three");
  CHECK(form("world")->message(" \n").empty());
  CHECK(form("none")->message(" one\n\n") == " one\n\n");
  CHECK(std::string(form("g1-think")->answer_begin) == " <think");
  const auto unknown = chat_template_named("wrold", "--template");
  CHECK(unknown.status().code() == Code::Usage);
  CHECK_THAT(unknown.status().message(),
             Contains("--template: unknown chat template 'wrold'; did you mean 'world'?"));
}
