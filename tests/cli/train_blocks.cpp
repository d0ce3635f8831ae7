// Training block by block from outside: kills, parts, and memory that does not grow with the number
// of blocks.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/cli/checks.h"
#include "tests/cli/process.h"
#include "tests/support/catch.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;

// A checkpoint, a text, a recipe, and the arguments that convert with them.
class Setting {
 public:
  Setting(const std::string& train, int n_layer, int n_embd) {
    std::string text;
    for (int i = 0; i < 2000; ++i) {
      text += fmt::format("{} squared is {}.\n", i % 97, (i % 97) * (i % 97));
    }
    write_text(scratch.file("text.txt"), text);
    write_text(scratch.file("r.yaml"), "name: r\nstages:\n" + train);
    output_of("rwkv-press",
              {"synth", "--arch", "v7", "--n-layer", std::to_string(n_layer), "--n-embd",
               std::to_string(n_embd), "--n-vocab", "256", "--quiet", "-o", scratch.file("m.pth")});
  }
  Arguments arguments(const std::string& name, const Arguments& more = {}) const {
    Arguments all = {"convert",
                     scratch.file("m.pth"),
                     "-o",
                     output(name),
                     "--recipe",
                     scratch.file("r.yaml"),
                     "--vocab",
                     "bytes",
                     "--train-data",
                     scratch.file("text.txt"),
                     "--train-threads",
                     "1",
                     "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string output(const std::string& name) const { return scratch.file(name + ".gguf"); }
  ScratchFolder scratch;
};

void require_fine(const RunResult& result) {
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
}

// The most memory that rwkv-press had, in bytes.
uint64_t peak_of(const Arguments& arguments) {
  const std::string program = executable("rwkv-press");
  std::vector<char*> words = {const_cast<char*>(program.c_str())};
  for (const std::string& word : arguments) {
    words.push_back(const_cast<char*>(word.c_str()));
  }
  words.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::execv(program.c_str(), words.data());
    ::_exit(127);
  }
  int status = 0;
  rusage usage{};
  REQUIRE(::wait4(pid, &status, 0, &usage) == pid);
  REQUIRE(WIFEXITED(status));
  REQUIRE(WEXITSTATUS(status) == 0);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

constexpr const char* kTrain =
    "  - train: {mode: blocks, block_steps: 12, steps: 10, batch: 2, length: 64, save_every: 3, "
    "teacher_top_k: 8, precision: fp32}\n";

}  // namespace

TEST_CASE("A conversion that trains by blocks, killed again and again, ends in the same bytes",
          "[cli][blocks]") {
  const Setting setting(kTrain, 3, 64);
  const auto begin = std::chrono::steady_clock::now();
  require_fine(run("rwkv-press", setting.arguments("whole")));
  const auto took = std::chrono::steady_clock::now() - begin;
  // Later and later, so that every kill comes after more was done, wherever it comes.
  constexpr int kKills = 6;
  int n_killed = 0;
  for (int i = 1; i <= kKills; ++i) {
    Process process(setting.scratch, "killed", setting.arguments("killed", {"--resume"}));
    std::this_thread::sleep_for(took * i / (kKills + 1));
    process.send(SIGKILL);
    n_killed += process.wait().signal == SIGKILL ? 1 : 0;
  }
  CHECK(n_killed >= 2);
  if (!fs::exists(setting.output("killed"))) {
    require_fine(run("rwkv-press", setting.arguments("killed", {"--resume"})));
  }
  CHECK(read_bytes(setting.output("whole")) == read_bytes(setting.output("killed")));
}

TEST_CASE("Parts of the blocks, at the same time, give the bytes of an undivided run",
          "[cli][blocks]") {
  const Setting setting(
      "  - train: {mode: blocks, from: teacher, block_steps: 4, steps: 0, batch: 2, length: 32}\n",
      3, 64);
  require_fine(run("rwkv-press", setting.arguments("whole")));
  Process first(setting.scratch, "first", setting.arguments("parts", {"--shard", "1/2"}));
  Process second(setting.scratch, "second", setting.arguments("parts", {"--shard", "2/2"}));
  require_fine(first.wait());
  require_fine(second.wait());
  CHECK_FALSE(fs::exists(setting.output("parts")));
  CHECK_THAT(run("rwkv-press", setting.arguments("parts")).err, Contains("--resume"));
  require_fine(run("rwkv-press", setting.arguments("parts", {"--resume"})));
  CHECK(read_bytes(setting.output("whole")) == read_bytes(setting.output("parts")));
  CHECK(run("rwkv-press", setting.arguments("other", {"--shard", "3/2"})).exit_code == 2);
  const Setting whole("  - train: {steps: 2, batch: 2, length: 32}\n", 1, 64);
  const RunResult refused = run("rwkv-press", whole.arguments("m", {"--shard", "1/2"}));
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("mode: blocks"));
}

TEST_CASE("Training by blocks has one block in memory", "[cli][blocks][memory]") {
  // A block of 384 channels with gradients and optimiser takes 30 MB, twelve of them 360.
  const std::string train =
      "  - train: {mode: blocks, block_steps: 1, steps: 0, batch: 1, length: 16, precision: "
      "fp32}\n";
  const Setting few(train, 2, 384);
  const Setting many(train, 12, 384);
  const uint64_t small = peak_of(few.arguments("m"));
  const uint64_t large = peak_of(many.arguments("m"));
  CAPTURE(small, large);
  CHECK(large < small + (uint64_t{60} << 20));
}

TEST_CASE("A conversion refuses a device that it cannot train on", "[cli][blocks]") {
  const Setting setting(kTrain, 2, 64);
  const auto refused = [&](const Arguments& more, const char* says) {
    const RunResult result = run("rwkv-press", setting.arguments("refused", more));
    CHECK(result.exit_code == 2);
    CHECK_THAT(result.err, Contains(says));
    CHECK_FALSE(fs::exists(setting.output("refused")));
  };
  refused({"--device", "gpu"}, "--device: expected cpu, cuda or cuda:N, found 'gpu'");
  refused({"--device", "cuda:999"}, "--device cuda:999: ");
  write_text(setting.scratch.file("r.yaml"), "name: r\nstages: [quantize]\n");
  const RunResult useless =
      run("rwkv-press", {"convert", setting.scratch.file("m.pth"), "-o", setting.output("refused"),
                         "--recipe", setting.scratch.file("r.yaml"), "--device", "cpu"});
  CHECK(useless.exit_code == 2);
  CHECK_THAT(useless.err, Contains("has no training; remove --device"));
}
