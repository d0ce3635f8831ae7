// Completion scripts and manual pages: they parse, and complete what the programs know.
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;

namespace {

bool has(const std::string& program) {
  return run("/bin/sh", {"-c", "command -v " + program + " > /dev/null"}).exit_code == 0;
}

/// What bash completes for these words, the last of which is unfinished.
std::string completed(const std::vector<std::string>& words) {
  std::string command = "source <(\"$0\" completion bash); COMP_WORDS=(";
  for (const std::string& word : words) {
    command += "'" + word + "' ";
  }
  command += "); COMP_CWORD=" + std::to_string(words.size() - 1) +
             "; _rwkv_edge; printf '%s ' \"${COMPREPLY[@]}\"";
  const RunResult result = run("/bin/bash", {"-c", command, executable("rwkv-edge")});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

void check_pages(const std::string& program) {
  const ScratchFolder scratch;
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const RunResult script = run(program, {"completion", shell});
    REQUIRE(script.exit_code == 0);
    CHECK_THAT(script.out, Contains("inspect"));
    write_text(scratch.file(shell), script.out);
    if (has(shell)) {
      const RunResult parsed =
          run("/bin/sh", {"-c", "\"$0\" -n \"$1\"", shell, scratch.file(shell)});
      INFO(shell << "\n" << parsed.err);
      CHECK(parsed.exit_code == 0);
    }
  }
  const RunResult page = run(program, {"man"});
  REQUIRE(page.exit_code == 0);
  CHECK_THAT(page.out, Contains(".SH NAME") && Contains(".SS inspect"));
  write_text(scratch.file("page.1"), page.out);
  if (has("groff")) {
    const RunResult shown =
        run("/bin/sh", {"-c", "groff -man -ww -Tascii \"$0\"", scratch.file("page.1")});
    CHECK(shown.exit_code == 0);
    CHECK(shown.err.empty());
    CHECK_THAT(shown.out, Contains("Results go to standard output"));
  }
}

}  // namespace

TEST_CASE("bash completes commands, options and their values", "[cli]") {
  CHECK(completed({"rwkv-edge", "gen"}) == "generate ");
  CHECK_THAT(completed({"rwkv-edge", "generate", "--pre"}),
             Contains("--presence ") && Contains("--presence-penalty "));
  CHECK(completed({"rwkv-edge", "chat", "--template", "g1-t"}) == "g1-think ");
  CHECK(completed({"rwkv-edge", "chat", "--template", "=", "wor"}) == "world ");
  CHECK(completed({"rwkv-edge", "completion", "z"}) == "zsh ");
  CHECK(completed({"rwkv-edge", "generate", "m.gguf", "--file", "x"}) == " ");
}

TEST_CASE("Completion scripts and the manual page of rwkv-edge parse", "[cli]") {
  check_pages("rwkv-edge");
}

#ifdef RWKV_WITH_PRESS
TEST_CASE("Completion scripts and the manual page of rwkv-press parse", "[cli]") {
  check_pages("rwkv-press");
}
#endif
