// Commands of recipes from outside: refused unless allowed, shown before they run, ended with us.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/cli/checks.h"
#include "tests/cli/process.h"
#include "tests/support/catch.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;

std::string model_in(const ScratchFolder& scratch) {
  const std::string path = scratch.file("m.pth");
  output_of("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "1", "--n-embd", "64",
                           "--n-vocab", "256", "-o", path, "--quiet"});
  return path;
}

std::string recipe_in(const ScratchFolder& scratch, const std::string& command) {
  const std::string path = scratch.file("r.yaml");
  write_text(path, "stages:\n  - external:\n      command: >-\n        " + command + "\n");
  return path;
}

std::vector<pid_t> pids_in(const std::string& path) {
  std::ifstream file(path);
  std::vector<pid_t> pids;
  for (pid_t pid = 0; file >> pid;) {
    pids.push_back(pid);
  }
  return pids;
}

bool all_dead(const std::vector<pid_t>& pids) {
  return std::all_of(pids.begin(), pids.end(), [](pid_t pid) { return ::kill(pid, 0) != 0; });
}

}  // namespace

TEST_CASE("A recipe's command runs only where it is allowed", "[external]") {
  const ScratchFolder scratch;
  const std::string input = model_in(scratch);
  const std::string ran = scratch.file("ran");
  const std::string recipe = recipe_in(scratch, "touch " + ran + "; cp {input} {output}");
  const std::string shown = "stage external runs: touch " + ran + "; cp {input} {output}";
  const std::string out = scratch.file("m.gguf");
  write_text(scratch.file("s.yaml"), "recipe: r.yaml\nevaluate: {speed: false}\n");
  const Arguments convert = {"convert", input, "-o", out, "--recipe", recipe, "--quiet"};
  const Arguments sweep = {
      "sweep",   input,   "--config", scratch.file("s.yaml"), "-o", scratch.file("swept"),
      "--vocab", "bytes", "--quiet"};
  for (const Arguments& words : {convert, Arguments{"plan", input, "--recipe", recipe}, sweep}) {
    INFO(words.front());
    check_refused("rwkv-press", words, 2, shown);
    check_refused("rwkv-press", words, 2, "--allow-external");
    CHECK_FALSE(fs::exists(ran));
    CHECK(fs::exists(out) == (words.front() != "convert"));  // made in the first round
    Arguments allowed = words;
    allowed.emplace_back("--allow-external");
    const RunResult result = run("rwkv-press", allowed);
    INFO(result.err);
    CHECK(result.exit_code == 0);
    CHECK(fs::exists(ran) == (words.front() != "plan"));
    // Shown although --quiet asks for silence.
    CHECK((words.front() == "plan" || result.err.starts_with(recipe + ": " + shown)));
    fs::remove(ran);
  }
  // In a packed file it is a stranger's: nobody has read it yet.
  const std::string packed = out + " (the recipe in this packed file)";
  const Arguments again = {"convert",  input, "-o",     scratch.file("n.gguf"),
                           "--recipe", out,   "--quiet"};
  check_refused("rwkv-press", again, 2, packed + ": expected a recipe that runs no commands");
  CHECK_FALSE(fs::exists(ran));
  Arguments allowed = again;
  allowed.emplace_back("--allow-external");
  const RunResult result = run("rwkv-press", allowed);
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains(packed + ": " + shown));
  CHECK((read_bytes(out) == read_bytes(scratch.file("n.gguf"))));
  write_text(scratch.file("t.yaml"), "recipe: m.gguf\n");
  check_refused("rwkv-press", {"sweep", input, "--config", scratch.file("t.yaml"), "-o", "x"}, 2,
                packed);
}

TEST_CASE("Files of any name reach a recipe's command", "[external]") {
  const ScratchFolder scratch;
  const std::string input = model_in(scratch);
  const std::string recipe = recipe_in(scratch, "cp \"{input}\" {output}");
  for (const char* name : {"with space", "it's", "a\"b", "$(touch bad)", "`touch bad`", "new\nline",
                           "{output}", "{input}{output}", "-rf", "; touch bad #"}) {
    INFO(name);
    const fs::path folder = scratch.path() / name;
    fs::create_directory(folder);
    const RunResult result =
        run("rwkv-press", {"convert", input, "-o", (folder / "m.gguf").string(), "--recipe", recipe,
                           "--allow-external", "--quiet"});
    INFO(result.err);
    CHECK(result.exit_code == 0);
    CHECK(fs::exists(folder / "m.gguf"));
    CHECK(fs::exists(folder / "m.gguf.work" / "external-output.pth"));
  }
  CHECK_FALSE(fs::exists(scratch.file("bad")));
  CHECK_FALSE(fs::exists("bad"));
}

TEST_CASE("A recipe's command ends with the program, however that ends", "[external]") {
  const ScratchFolder scratch;
  const std::string input = model_in(scratch);
  const std::string pids = scratch.file("pids");
  // The shell, a child in its group, and a grandchild in a session of its own.
  const std::string recipe = recipe_in(
      scratch, "true {input} {output}; echo $$ >> " + pids + "; sleep 1000 & echo $! >> " + pids +
                   "; setsid sh -c 'echo $$ >> " + pids + "; exec sleep 1000' & wait");
  write_text(scratch.file("s.yaml"),
             "recipe: r.yaml\nreferences: false\nevaluate: {speed: false}\n");
  struct Case {
    Arguments words;
    int signal;
  };
  const Arguments convert = {
      "convert", input, "-o", scratch.file("m.gguf"), "--recipe", recipe, "--allow-external"};
  const Arguments sweep = {
      "sweep",   input,   "--config",        scratch.file("s.yaml"), "-o", scratch.file("swept"),
      "--vocab", "bytes", "--allow-external"};
  for (const Case& example : {Case{convert, SIGKILL}, Case{convert, SIGINT}, Case{convert, SIGTERM},
                              Case{sweep, SIGKILL}, Case{sweep, SIGINT}}) {
    INFO(example.words.front() << " and signal " << example.signal);
    fs::remove(pids);
    Process process(scratch, "process", example.words);
    REQUIRE(wait_until([&] { return pids_in(pids).size() == 3; }));
    const std::vector<pid_t> started = pids_in(pids);
    CHECK_FALSE(all_dead(started));
    process.send(example.signal);
    CHECK(process.wait().signal == example.signal);
    CHECK(wait_until([&] { return all_dead(started); }));
  }
}
