// Memory proven, not added up: the device's executable under a limit that the kernel enforces, and
// its account against what the kernel counts.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <regex>

#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
namespace fs = std::filesystem;

namespace {

using Arguments = std::vector<std::string>;

// A memory cgroup of our own, version 1 or 2; page cache counts in both.
class MemoryGroup {
 public:
  explicit MemoryGroup(uint64_t limit) {
    for (const bool v2 : {false, true}) {
      const fs::path root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
      const fs::path folder = root / fmt::format("rwkv-test-{}", ::getpid());
      const fs::path knob = folder / (v2 ? "memory.max" : "memory.limit_in_bytes");
      std::error_code ignored;
      fs::create_directory(folder, ignored);
      if (fs::exists(knob, ignored) && write(knob, limit)) {
        folder_ = folder;
        return;
      }
      fs::remove(folder, ignored);
    }
  }
  ~MemoryGroup() {
    std::error_code ignored;
    fs::remove(folder_, ignored);
  }
  MemoryGroup(const MemoryGroup&) = delete;
  MemoryGroup& operator=(const MemoryGroup&) = delete;

  bool works() const { return !folder_.empty(); }
  std::string procs() const { return (folder_ / "cgroup.procs").string(); }

 private:
  static bool write(const fs::path& path, uint64_t value) {
    std::ofstream file(path);
    file << value << std::flush;
    return file.good();
  }
  fs::path folder_;
};

// rwkv-edge inside the group.
RunResult run_inside(const MemoryGroup& group, const Arguments& arguments) {
  Arguments inside = {"-c", "echo $$ > '" + group.procs() + "' && exec \"$0\" \"$@\"",
                      executable("rwkv-edge")};
  inside.insert(inside.end(), arguments.begin(), arguments.end());
  return run("/bin/sh", inside);
}

// A model with everything that stages add, large against the executable itself.
std::string make_model(const ScratchFolder& scratch) {
  const std::string checkpoint = scratch.file("m.pth");
  const std::string text = scratch.file("text.txt");
  std::ofstream out(text);
  for (int i = 0; i < 3000; ++i) {
    out << i * i % 977 << (i % 7 == 0 ? ".\n" : " ");
  }
  out.close();
  const std::string packed = scratch.file("m.gguf");
  const RunResult made =
      run("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "8", "--n-embd", "768",
                         "--n-vocab", "4096", "--quiet", "-o", checkpoint});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  const RunResult converted =
      run("rwkv-press", {"convert", checkpoint, "-o", packed, "--preset", "rwkv-lite-int8",
                         "--vocab", "bytes", "--calibration", text, "--set",
                         "calibration.samples=8", "--set", "calibration.length=64", "--set",
                         "ffn_predictor.epochs=2", "--set", "ffn_predictor.recall=0.9", "--quiet"});
  INFO(converted.err);
  REQUIRE(converted.exit_code == 0);
  return packed;
}

Arguments generate(const std::string& model, const Arguments& more) {
  Arguments arguments = {"generate", model,    "--ids", "--prompt", "72 101 108", "-n",
                         "200",      "--temp", "0",     "--stats",  "--threads",  "2"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

double row_of(const std::string& stats, const std::string& name) {
  std::smatch found;
  REQUIRE(std::regex_search(stats, found, std::regex("\n" + name + " +([0-9.]+)")));
  return std::stod(found[1]);
}

}  // namespace

TEST_CASE("A model runs within its memory limit, with the same tokens as without", "[memory]") {
  const ScratchFolder scratch;
  const std::string model = make_model(scratch);
  const RunResult full = run("rwkv-edge", generate(model, {}));
  INFO(full.err);
  REQUIRE(full.exit_code == 0);

  // The smallest limits, from the refusal of an impossible one.
  const auto smallest = [&](const std::string& mode) {
    const RunResult refused =
        run("rwkv-edge", generate(model, {"--memory", mode, "--memory-limit", "1kB"}));
    CHECK(refused.exit_code == 2);
    std::smatch found;
    REQUIRE(std::regex_search(refused.err, found,
                              std::regex("smallest possible limit is ([0-9]+) bytes")));
    return std::stoull(found[1]);
  };
  const uint64_t least_sparse = smallest("sparse");
  const uint64_t least_windowed = smallest("windowed");
  const uint64_t least_streamed = smallest("streamed");
  const uint64_t least_layerwise = smallest("layerwise");
  CHECK(least_layerwise < least_sparse);
  CHECK(least_streamed < least_sparse);
  CHECK(least_sparse < fs::file_size(model));
  CHECK(least_windowed < fs::file_size(model));

  for (const auto& [mode, least] :
       {std::pair{"sparse", least_sparse + least_sparse / 10},
        std::pair{"windowed", least_windowed + least_windowed / 10},
        std::pair{"streamed", least_streamed + least_streamed / 10},
        std::pair{"streamed", (least_streamed + least_sparse) / 2},
        std::pair{"layerwise", least_layerwise + least_layerwise / 10}}) {
    const Arguments arguments =
        generate(model, {"--memory", mode, "--memory-limit", std::to_string(least)});
    const RunResult free = run("rwkv-edge", arguments);
    INFO(mode << "\n" << free.err);
    REQUIRE(free.exit_code == 0);
    CHECK(free.out == full.out);
    // The account within 5 % of what the system counts; of a window it has what may be resident,
    // the system what is just then.
    const double account = row_of(free.err, "all");
    const double measured = row_of(free.err, "measured");
    fmt::print("{}: account {:.2f} MB, measured {:.2f} MB, limit {:.2f} MB\n", mode, account,
               measured, static_cast<double>(least) * 1e-6);
    constexpr double kPrinted = 0.005;  // two decimals of a megabyte
    CHECK(account <= static_cast<double>(least) * 1e-6 + kPrinted);
    CHECK(measured < 1.05 * account);
    CHECK((std::string(mode) == "windowed" || measured > 0.95 * account));

    const MemoryGroup group(least + least / 10);
    if (!group.works()) {
      WARN("no memory cgroup can be made here; the limit was not enforced");
      continue;
    }
    const RunResult limited = run_inside(group, arguments);
    INFO(limited.err);
    CHECK(limited.signal == 0);
    CHECK(limited.exit_code == 0);
    CHECK(limited.out == full.out);
    // The group does limit: with everything private and a limit far below, the kernel ends it.
    const MemoryGroup tight(least / 4);
    CHECK(run_inside(tight, arguments).exit_code != 0);
  }
}

TEST_CASE("Wrong memory options are refused", "[memory]") {
  const ScratchFolder scratch;
  const std::string checkpoint = scratch.file("m.pth");
  const std::string model = scratch.file("m.gguf");
  REQUIRE(run("rwkv-press", {"synth", "--arch", "v7", "--n-layer", "2", "--n-embd", "128",
                             "--n-vocab", "256", "--quiet", "-o", checkpoint})
              .exit_code == 0);
  REQUIRE(run("rwkv-press", {"convert", checkpoint, "-o", model, "--quiet"}).exit_code == 0);
  const auto refused = [&](const Arguments& more, const std::string& says) {
    const RunResult result = run("rwkv-edge", generate(model, more));
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK_THAT(result.err, Catch::Contains(says));
  };
  refused({"--memory", "sparce"}, "sparse");
  refused({"--memory-limit", "lots"}, "64MB");
  refused({"--memory-limit", "-5MB"}, "expected a size such as 64MB");
  refused({"--memory-limit", "1e30GB"}, "expected a size such as 64MB");
  refused({"--neuron-cache", "2"}, "neuron-cache");
  refused({"--memory-limit", "100kB"}, "smallest");
  const RunResult bench = run("rwkv-edge", {"bench", model, "--json", "-n", "4", "--prompt", "8",
                                            "--runs", "1", "--threads", "1", "--memory", "sparse"});
  REQUIRE(bench.exit_code == 0);
  const auto report = nlohmann::json::parse(bench.out);
  CHECK(report["memory"]["mode"] == "sparse");
  CHECK(report["memory"]["components"]["neurons"]["read"].get<uint64_t>() > 0);
  CHECK(report["memory"]["total"].get<uint64_t>() > report["memory"]["weights"].get<uint64_t>());
}
