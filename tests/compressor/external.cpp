// The command of the stage `external`: what becomes of the names of files in it, how it ends.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "compressor/recipe/commands.h"
#include "compressor/stages/command_line.h"
#include "compressor/stages/watched_shell.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

Status run_with(const std::string& command, const std::string& input, const std::string& output,
                const std::string& log) {
  return press::run_watched(
      press::with_variables(command),
      {{press::kInputVariable, input}, {press::kOutputVariable, output}, {"LOG", log}});
}

constexpr const char* kAwkward[] = {"plain",
                                    "with space",
                                    "two  spaces ",
                                    "quote'd",
                                    "quote\"d",
                                    "$(touch bad)",
                                    "`touch bad`",
                                    "new\nline\n.x",
                                    "a{output}b",
                                    "{input}",
                                    "$HOME",
                                    "back\\slash\\",
                                    "*",
                                    "; touch bad #",
                                    "-n",
                                    "${RWKV_OUTPUT}",
                                    "caf\xc3\xa9",
                                    "\xff\xfe",
                                    "'; touch bad; '",
                                    "\"; touch bad; \""};

}  // namespace

TEST_CASE("Names of files enter a command in one pass, each as one word", "[external]") {
  const ScratchFolder scratch;
  const std::string log = scratch.file("log");
  const std::string bad = scratch.file("bad");
  // However the places stand: bare, in either quotes, in a word, in a substitution, in a comment.
  const std::string command =
      "cd " + scratch.path().string() +
      "; printf '%s|' {input} {output} \"{input}\" '{output}' a={input}.x \"$(printf %s {input})\" "
      "\"b $(printf %s \"{output}\")\" \\{input} > \"$LOG\" # {input}\n";
  for (const std::string input : kAwkward) {
    for (const std::string output : {std::string("out"), std::string("{input}"), input}) {
      INFO(input << " and " << output);
      REQUIRE_OK(run_with(command, input, output, log));
      // A substitution takes the line ends off the end of what was printed.
      const auto trimmed = [](std::string text) {
        while (text.ends_with('\n')) {
          text.pop_back();
        }
        return text;
      };
      CHECK(text_of(log) == input + "|" + output + "|" + input + "|" + output + "|a=" + input +
                                ".x|" + trimmed(input) + "|b " + trimmed(output) + "|{input}|");
      CHECK_FALSE(std::filesystem::exists(bad));
    }
  }
}

TEST_CASE("A name is never read as code, even where its quotes are not understood", "[external]") {
  const ScratchFolder scratch;
  const std::string log = scratch.file("log");
  // An apostrophe in a comment, a here-document, a command in a command.
  for (const std::string command :
       {"cd \"$D\" # don't\nprintf %s {input} > \"$LOG\" # {output}",
        "cd \"$D\"; cat > \"$LOG\" <<E\nit's {input}\n{output}\nE\n",
        "cd \"$D\"; sh -c 'printf %s \"$1\"' x {input} > \"$LOG\" # {output}",
        "cd \"$D\"; case a in a) echo \"$(echo ' {input} ' \" {output} \")\" ;; esac > \"$LOG\""}) {
    for (const char* name : kAwkward) {
      INFO(command << " with " << name);
      static_cast<void>(
          press::run_watched(press::with_variables(command), {{press::kInputVariable, name},
                                                              {press::kOutputVariable, name},
                                                              {"LOG", log},
                                                              {"D", scratch.path().string()}})
              .ok());
      CHECK_FALSE(std::filesystem::exists(scratch.file("bad")));
    }
  }
}

TEST_CASE("A command that no shell would see whole is refused", "[external]") {
  REQUIRE_OK(press::check_command("cp {input} {output}"));
  for (const std::string& command :
       {std::string(), std::string("cp {input} out"), std::string("cp in {output}"),
        std::string("true # {input} {output}\0; rm x", 32),
        "cp {input} {output} " + std::string(70'000, 'x')}) {
    CHECK(press::check_command(command).code() == Code::Usage);
  }
}

TEST_CASE("A command's end is told, and takes along what it started", "[external]") {
  const ScratchFolder scratch;
  const std::string log = scratch.file("log");
  CHECK(run_with("exit 7", "a", "b", log).message() == "the command failed with exit code 7");
  CHECK(run_with("kill -9 $$", "a", "b", log).message() == "the command was ended by signal 9");
  CHECK_THAT(run_with("kill -9 $PPID; sleep 100", "a", "b", log).message(),
             Catch::Contains("watches"));
  // One in the group, one in a session of its own, whose parents have ended.
  REQUIRE_OK(
      run_with("(sleep 1000 & echo $! >> \"$LOG\")\n"
               "setsid sh -c 'sleep 1000 & echo $! >> \"$LOG\"; exec sleep 1000' &\n"
               "echo $! >> \"$LOG\"\n"
               "while [ $(wc -l < \"$LOG\") -lt 3 ]; do sleep 0.01; done",
               "a", "b", log));
  std::istringstream pids(text_of(log));
  size_t n = 0;
  for (pid_t pid = 0; pids >> pid; ++n) {
    CHECK(::kill(pid, 0) == -1);
  }
  CHECK(n == 3);
}

TEST_CASE("A command reads nothing of ours and has no signals blocked", "[external]") {
  const ScratchFolder scratch;
  const std::string log = scratch.file("log");
  std::ofstream open_file(scratch.file("ours"));
  REQUIRE_OK(
      run_with("cat > \"$LOG\"; ls /proc/$$/fd >> \"$LOG\"; "
               "grep -E 'SigBlk|SigIgn' /proc/self/status >> \"$LOG\"",
               "a", "b", log));
  const std::string text = text_of(log);
  INFO(text);
  CHECK_FALSE(text.starts_with("SigBlk"));
  CHECK_THAT(text, Catch::Contains("SigBlk:\t0000000000000000"));
  // It leads a process group of its own.
  REQUIRE_OK(run_with("[ \"$(cut -d ' ' -f 5 /proc/$$/stat)\" = $$ ]", "a", "b", log));
  std::istringstream lines(text);
  std::vector<std::string> files;
  for (std::string line; std::getline(lines, line) && !line.starts_with("Sig");) {
    files.push_back(line);
  }
  CHECK(files.size() <= 4);  // the three streams, and a script's own
}

TEST_CASE("Commands of a recipe are listed whole, and only as text", "[external]") {
  const auto recipe = press::parse_recipe(
      "stages:\n  - external: {command: \"cp {input} {output} # \\e[2J\\u202e\\n\"}\n", "r.yaml",
      {});
  REQUIRE_OK(recipe.status());
  const auto commands = press::commands_of(recipe.value());
  REQUIRE(commands.size() == 1);
  CHECK(commands[0] == "stage external runs: cp {input} {output} # \\x1b[2J\\u{202e}\\n");
  CHECK(press::check_commands(commands, "r.yaml", true).ok());
  const Status refused = press::check_commands(commands, "r.yaml", false);
  CHECK(refused.code() == Code::Usage);
  CHECK_THAT(refused.message(), Catch::Contains("r.yaml") && Catch::Contains("--allow-external") &&
                                    Catch::Contains(commands[0]));
}
