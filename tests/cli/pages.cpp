// Completion scripts and manual pages: they parse, and complete what the programs know.
#include <cstdio>
#include <filesystem>

#include "tests/cli/run.h"
#include "tests/cli/terminal.h"
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

/// The folder of rwkv-edge.
std::string folder() {
  return std::filesystem::path(executable("rwkv-edge")).parent_path().string();
}

/// What fish completes at the end of `line`: a line for each, with its description after a tab.
std::string fish_completes(const std::string& line) {
  const ScratchFolder home;
  const RunResult result =
      run("/bin/sh", {"-c",
                      "HOME=\"$1\" PATH=\"$2:$PATH\" exec fish --no-config -c "
                      "'rwkv-edge completion fish | source; complete -C \"$argv[1]\"' -- \"$3\"",
                      "sh", home.path().string(), folder(), line});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

void skip(const char* shell) {
  std::fprintf(stderr, "SKIPPED completion in %s: it is not installed\n", shell);
}

}  // namespace

TEST_CASE("fish completes commands, options and their values", "[cli]") {
  if (!has("fish")) {
    return skip("fish");
  }
  CHECK(fish_completes("rwkv-edge gen") == "generate\tContinue a prompt\n");
  CHECK_THAT(fish_completes("rwkv-edge chat --template g1-t"),
             Contains("g1-think\tHow turns are written"));
  CHECK_THAT(fish_completes("rwkv-edge generate --memory w"), Contains("windowed\t"));
  const std::string options = fish_completes("rwkv-edge generate --pre");
  CHECK_THAT(options, Contains("--presence\tN: Penalty") && Contains("--predict\tN: Number") &&
                          !Contains("--temp"));
  CHECK(fish_completes("rwkv-edge completion z") == "zsh\n");
  // Paths where a file is expected, nothing where a number is.
  CHECK_THAT(fish_completes("rwkv-edge generate --file /et"), Contains("/etc/"));
  CHECK(fish_completes("rwkv-edge generate --threads /et").empty());
}

TEST_CASE("zsh completes commands, options and their values", "[cli]") {
  if (!has("zsh")) {
    return skip("zsh");
  }
  const ScratchFolder scratch;
  Terminal zsh("/usr/bin/env", {"HOME=" + scratch.path().string(), "zsh", "-f", "-i"}, 200);
  zsh.type("PS1='ready%# '; unsetopt zle_bracketed_paste; path=('" + folder() + "' $path)\r");
  zsh.type("autoload -U compinit && compinit -D -u && source <(rwkv-edge completion zsh)\r");
  zsh.type("print 'is'-set-up\r");
  REQUIRE(zsh.shows("is-set-up"));
  // zsh draws what it completes with colours in between, so whole lines cannot be expected.
  const auto completes = [&](const std::string& typed, const std::string& completed) {
    // Ctrl-U takes the line back.
    zsh.type("\x15" + typed + "\t");
    INFO(zsh.screen());
    CHECK(zsh.shows(completed));
  };
  completes("rwkv-edge gen", "erate");
  completes("rwkv-edge chat --template g1-t", "g1-think");
  completes("rwkv-edge generate --memory win", "windowed");
  completes("rwkv-edge generate --predi", "--predict");
  completes("rwkv-edge completion fi", "completion fish");
  completes("rwkv-edge generate --file /et", "--file /etc");
}

TEST_CASE("bash completes commands, options and their values", "[cli]") {
  CHECK(completed({"rwkv-edge", "gen"}) == "generate ");
  CHECK_THAT(completed({"rwkv-edge", "generate", "--pre"}),
             Contains("--presence ") && Contains("--presence-penalty "));
  CHECK(completed({"rwkv-edge", "chat", "--template", "g1-t"}) == "g1-think ");
  CHECK(completed({"rwkv-edge", "chat", "--template", "=", "wor"}) == "world ");
  CHECK(completed({"rwkv-edge", "completion", "z"}) == "zsh ");
  CHECK_THAT(completed({"rwkv-edge", "generate", "--memory", ""}),
             Contains("windowed ") && Contains("layerwise "));
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
