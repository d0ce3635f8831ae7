// What a person tries first: other programs' spellings, pipes, files from editors, checkpoints that
// were not converted. It works, or the answer says what does.
#include <fmt/format.h>

#include <algorithm>

#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

std::string bytes_model(const ScratchFolder& scratch, const char* name = "m.gguf") {
  TinyModelOptions options;
  options.vocabulary = TinyVocabulary::Bytes;
  options.n_vocab = 256;
  return write_tiny_model(scratch, options, name);
}

/// A command of bash, in which $E is rwkv-edge, $M the model and $D the folder.
RunResult shell(const ScratchFolder& scratch, const std::string& model,
                const std::string& command) {
  return run("/bin/bash", {"-c", "E=$0; M=$1; D=$2; " + command, executable("rwkv-edge"), model,
                           scratch.path().string()});
}

std::string output_of(const ScratchFolder& scratch, const std::string& model,
                      const std::string& command) {
  const RunResult result = shell(scratch, model, command);
  INFO(command << "\n" << result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

}  // namespace

TEST_CASE("Escapes in prompts and stop strings are replaced, and files are taken as they are",
          "[cli]") {
  const ScratchFolder scratch;
  const std::string m = bytes_model(scratch);
  const auto out = [&](const std::string& rest) {
    return output_of(scratch, m, "\"$E\" generate \"$M\" -n 20 -s 7 -t 1 " + rest);
  };
  const std::string plain = out("-p $'User: hi\\n\\nA:'");
  CHECK(out("-p 'User: hi\\n\\nA:'") == plain);
  CHECK(out("-p 'User: hi\\x0a\\u000aA:'") == plain);
  CHECK(out("--no-escape -p 'User: hi\\n\\nA:'") != plain);
  CHECK(out("--no-escape -p 'a\\n'") == out("-p 'a\\\\n'"));
  write_text(scratch.file("typed"), "a\\n");
  CHECK(out("-f \"$D/typed\"") == out("--no-escape -p 'a\\n'"));
  const RunResult unknown = shell(scratch, m, "\"$E\" generate \"$M\" -n 1 -p 'a\\qb'");
  CHECK(unknown.exit_code == 0);
  CHECK_THAT(unknown.err, Contains("\\q stays as it was typed"));
  const std::string all = out("-p x");
  const auto is_plain = [](char c) { return c > ' ' && c < '\x7f'; };
  const auto at = std::find_if(all.begin(), all.end(), is_plain);
  REQUIRE(at != all.end());
  CHECK(out(fmt::format("-p x --stop '\\x{:02x}'", static_cast<int>(*at))) ==
        std::string(all.begin(), at) + "\n");
}

TEST_CASE("Prompts come from files of any editor, from pipes and from standard input", "[cli]") {
  const ScratchFolder scratch;
  const std::string m = bytes_model(scratch);
  const auto out = [&](const std::string& before, const std::string& rest) {
    return output_of(scratch, m, before + " \"$E\" generate \"$M\" -n 20 -s 7 -t 1 " + rest);
  };
  const std::string plain = out("", "-p $'one\\ntwo'");
  CHECK(out("printf 'one\\ntwo\\n' |", "-f -") == plain);
  CHECK(out("printf 'one\\r\\ntwo\\r\\n' |", "-p -") == plain);
  CHECK(out("printf '\\xef\\xbb\\xbfone\\ntwo' |", "-f /dev/stdin") == plain);
  CHECK(out("", "--prompt-file <(printf 'one\\ntwo\\n')") == plain);
  CHECK(out("printf 'one\\ntwo\\n\\n' |", "-f -") != plain);
  for (const char* bytes : {"\\xff\\xfeh\\0i\\0", "h\\0e\\0l\\0l\\0o\\0", "\\xfe\\xff\\0h\\0i"}) {
    const RunResult wide =
        shell(scratch, m, fmt::format("printf '{}' | \"$E\" generate \"$M\" -f -", bytes));
    CHECK(wide.exit_code == 3);
    CHECK_THAT(wide.err, Contains("UTF-16") && Contains("iconv"));
  }
  CHECK_THAT(shell(scratch, m, "\"$E\" generate \"$M\" -n 1 -p 'a '").err,
             Contains("ends in a blank"));
  CHECK(output_of(scratch, m, "echo -n abc | \"$E\" tokenize \"$M\" --text -") == "97 98 99\n");
  CHECK(output_of(scratch, m, "\"$E\" detokenize \"$M\" --ids <(echo 97 98)") == "ab");
  CHECK_THAT(output_of(scratch, m, "echo abcdef | \"$E\" perplexity \"$M\" --text /dev/stdin"),
             Contains("bits per byte"));
}

TEST_CASE("The seed is random, printed, and repeats the text", "[cli]") {
  const ScratchFolder scratch;
  const std::string m = bytes_model(scratch);
  const RunResult first = run("rwkv-edge", {"generate", m, "-p", "a", "-n", "40", "--seed", "-1"});
  const RunResult second = run("rwkv-edge", {"generate", m, "-p", "a", "-n", "40"});
  CHECK(first.out != second.out);
  const size_t at = second.err.find("seed ");
  REQUIRE(at != std::string::npos);
  const std::string seed = second.err.substr(at + 5, second.err.find('\n', at) - at - 5);
  CHECK(run("rwkv-edge", {"generate", m, "-p", "a", "-n", "40", "-s", seed}).out == second.out);
  CHECK(run("rwkv-edge", {"generate", m, "-p", "a", "--seed", "-2"}).exit_code == 2);
  const RunResult greedy = run("rwkv-edge", {"generate", m, "-p", "a", "-n", "40", "--top-p", "0"});
  CHECK(greedy.out == run("rwkv-edge", {"generate", m, "-p", "a", "-n", "40", "--temp", "0"}).out);
  CHECK(greedy.err.find("seed") == std::string::npos);
  for (const char* what : {"kernels ", "thread", "memory full", "vocabulary byte"}) {
    CHECK_THAT(greedy.err, Contains(what));
  }
  CHECK(run("rwkv-edge", {"generate", m, "-p", "a", "-n", "4", "--quiet"}).err.empty());
}

TEST_CASE("A reader that has read enough ends a program quietly, a full device does not", "[cli]") {
  const ScratchFolder scratch;
  const std::string m = bytes_model(scratch);
  for (const char* command : {"generate \"$M\" -p a -n 100000 -q", "inspect \"$M\"", "man"}) {
    const RunResult result =
        shell(scratch, m,
              fmt::format("\"$E\" {} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}", command));
    CHECK(result.out == "0\n");
    CHECK(result.err.empty());
    const RunResult full = shell(scratch, m, fmt::format("\"$E\" {} > /dev/full", command));
    CHECK(full.exit_code == 1);
    CHECK_THAT(full.err, Contains("cannot write"));
  }
}

TEST_CASE("Other spellings work, mistakes are answered in our words", "[cli]") {
  const ScratchFolder scratch;
  const std::string m = bytes_model(scratch, "\xe6\xa8\xa1 \xd0\xb6 model.gguf");
  const auto out = [&](const std::string& rest) { return output_of(scratch, m, "\"$E\" " + rest); };
  const std::string plain = out("generate \"$M\" -p a -n 9 --seed 3 --temp 0.8 --stop zz");
  CHECK(out("-m \"$M\" -p a --n-predict 9 -s 3 --temperature 0.8 -c 4096 -r zz") == plain);
  CHECK(out("\"$M\" --prompt=a -n9 -s3 --temp=0.8 --presence-penalty 0") == plain);
  CHECK(out("generate --model=\"$M\" -pa -qn 9 -s3 --temp 0.8") == plain);
  CHECK(output_of(scratch, m,
                  "cp \"$M\" \"$D/at home.gguf\"; HOME=\"$D\" \"$E\" generate "
                  "\"--model=~/at home.gguf\" -pa -n9 -s3 --temp 0.8") == plain);
  for (const char* help : {"help generate", "--help generate", "generate --help", "generate -h"}) {
    CHECK_THAT(out(help), Contains("--prompt-file"));
  }
  CHECK_THAT(out("help completion"), Contains("bash|zsh|fish"));
  const std::string narrow = output_of(scratch, m, "COLUMNS=40 \"$E\" generate --help");
  for (size_t at = 0; at < narrow.size();) {
    const size_t end = narrow.find('\n', at);
    CHECK(end - at <= 40);
    at = end + 1;
  }
  const auto refused = [&](const std::string& rest, int exit_code, const std::string& says) {
    const RunResult result = shell(scratch, m, "\"$E\" " + rest);
    INFO(rest << "\n" << result.err);
    CHECK(result.exit_code == exit_code);
    CHECK_THAT(result.err, Contains(says));
    CHECK(result.err.find("Option") == std::string::npos);
  };
  refused("generate \"$M\" -p a -z", 2, "unknown option '-z'");
  refused("generate \"$M\" -p a --promt b", 2, "did you mean '--prompt'?");
  refused("generate \"$M\" -p", 2, "-p expects a value (TEXT), found none");
  refused("generate \"$M\" --ids=1 -p 2", 2, "--ids takes no value");
  refused("generat \"$M\"", 2, "did you mean 'generate'?");
  refused("help generat", 2, "did you mean 'generate'?");
  refused("completion tcsh", 2, "unknown shell 'tcsh'");
}

TEST_CASE("A checkpoint or a folder in place of a packed model is named, with the command",
          "[cli]") {
  const ScratchFolder scratch;
  const auto refused = [&](const std::string& path, const std::string& kind,
                           const std::string& command) {
    for (const char* run_by : {"generate", "chat", "tokenize"}) {
      const RunResult result = run("rwkv-edge", {run_by, path, "-q"});
      CHECK(result.exit_code != 0);
      if (std::string(run_by) == "chat") {
        CHECK(result.exit_code == 3);
        CHECK_THAT(result.err, Contains(kind) && Contains(command));
      }
    }
  };
  write_text(scratch.file("my model.pth"), "PK\x03\x04 my model/data.pkl and so on");
  refused(scratch.file("my model.pth"), "a PyTorch checkpoint", "-o 'my model.gguf'");
  write_text(scratch.file("a.st"), std::string("\x40\0\0\0\0\0\0\0{\"a\":1}", 15));
  refused(scratch.file("a.st"), "a safetensors file", "rwkv-press convert");
  refused(scratch.path().string(), "a directory", "rwkv-press convert");
  struct Case {
    std::string content;
    const char* found;
    const char* advice;
  };
  const Case cases[] = {
      {"# A page\n", "a text that begins with '# a page'", "rwkv-press convert CHECKPOINT"},
      {"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "git lfs pull"},
      {"<!DOCTYPE html>", "a web page", "download the file itself"},
      {"{\"a\": 1}", "a JSON text", "rwkv-press convert CHECKPOINT"},
      {"1 '\\x00' 1\n2 '\\x01' 1\n", "a vocabulary", "rwkv-press convert --vocab"},
      {"PK\x03\x04 other.txt", "a zip archive", "unpack it first"},
      {"\x1f\x8b\x08", "packed with gzip", "gunzip"},
      {"fmgg and so on", "an rwkv.cpp file", "rwkv-press convert"},
      {"\x80\x02}q", "a PyTorch checkpoint", "rwkv-press convert"},
      {"\x01\x02\x03\x04", "a file that begins with 01 02 03 04", "rwkv-press convert CHECKPOINT"},
      {"", "an empty file", "rwkv-press convert CHECKPOINT"},
      {"GG", "a text that begins with 'gg'", "rwkv-press convert CHECKPOINT"},
  };
  for (const Case& one : cases) {
    const std::string path = scratch.file("wrong file");
    write_text(path, one.content);
    for (const char* command : {"generate", "inspect", "bench"}) {
      const std::vector<std::string> more = std::string(command) == "generate"
                                                ? std::vector<std::string>{"-p", "a"}
                                                : std::vector<std::string>();
      std::vector<std::string> arguments = {command, path};
      arguments.insert(arguments.end(), more.begin(), more.end());
      const RunResult result = run("rwkv-edge", arguments);
      INFO(command << ": " << result.err);
      CHECK(result.exit_code == 3);
      CHECK_THAT(result.err,
                 Contains("wrong file: expected ") && Contains(one.found) && Contains(one.advice));
    }
  }
}
