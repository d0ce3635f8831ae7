// rwkv-press sweep from outside: what it refuses, what a point is, failures, kills, shards.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/cli/process.h"
#include "tests/support/catch.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

using Arguments = std::vector<std::string>;

constexpr const char* kStages =
    "name: tiny\n"
    "calibration: {samples: 16, length: 32}\n"
    "stages:\n"
    "  - low_rank: {factor: 8}\n"
    "  - cluster_head: {clusters: 12, epochs: 3}\n"
    "  - quantize: {codec: f16, min_numbers: 0}\n";
constexpr const char* kAxes =
    "axes:\n"
    "  low_rank.factor: [4, 8]\n"
    "  quantize.codec: [f16, i8_row]\n";
constexpr const char* kEvaluate =
    "evaluate: {text: [text.txt], max_tokens: 200, speed: false}\nreferences: false\n";

// A model, a text and a sweep's configuration.
class Setting {
 public:
  explicit Setting(const std::string& config = std::string(kStages) + kAxes + kEvaluate) {
    const RunResult made =
        run("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "2", "--n-embd", "64",
                           "--n-vocab", "256", "-o", input(), "--quiet"});
    REQUIRE(made.exit_code == 0);
    std::string text;
    for (int i = 0; i < 300; ++i) {
      text += fmt::format("{} squared is {}.\n", i % 97, (i % 97) * (i % 97));
    }
    write_text(scratch.file("text.txt"), text);
    configure(config);
  }
  void configure(const std::string& config) const {
    write_text(scratch.file("sweep.yaml"), config);
  }
  std::string input() const { return scratch.file("m.pth"); }
  Arguments arguments(const std::string& folder, const Arguments& more = {}) const {
    Arguments all = {
        "sweep",   input(), "--config",      scratch.file("sweep.yaml"), "-o", scratch.file(folder),
        "--vocab", "bytes", "--calibration", scratch.file("text.txt")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  RunResult sweep(const std::string& folder, const Arguments& more = {}) const {
    return run("rwkv-press", arguments(folder, more));
  }
  Json results(const std::string& folder) const {
    std::ifstream file(scratch.file(folder + "/results.json"));
    return Json::parse(file);
  }
  // results.csv without the columns of timings, which are the last four.
  std::string lasting_results(const std::string& folder) const {
    std::ifstream file(scratch.file(folder + "/results.csv"));
    std::string all;
    for (std::string line; std::getline(file, line);) {
      for (int i = 0; i < 4; ++i) {
        line.erase(line.rfind(','));
      }
      all += line + "\n";
    }
    return all;
  }
  size_t n_done(const std::string& folder) const {
    size_t n = 0;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(scratch.file(folder + "/points"), ignored)) {
      n += fs::exists(entry.path() / "result.json", ignored) ? 1 : 0;
    }
    return n;
  }

  ScratchFolder scratch;
};

// The objects of a log, each with its time.
std::vector<Json> events_in(const std::string& path) {
  std::ifstream file(path);
  std::vector<Json> events;
  for (std::string line; std::getline(file, line);) {
    events.push_back(Json::parse(line));
    CHECK(events.back()["time"].get<double>() > 0);
  }
  REQUIRE_FALSE(events.empty());
  return events;
}

void require_fine(const RunResult& result) {
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
}

}  // namespace

TEST_CASE("A sweep's points are what conversions of their recipes are", "[sweep]") {
  const Setting setting;
  const std::string log = setting.scratch.file("log.jsonl");
  const RunResult result = setting.sweep("out", {"--keep-models", "--json-log", log});
  require_fine(result);
  CHECK_THAT(result.out, Contains("factor=8 codec=i8_row"));
  const std::vector<Json> events = events_in(log);
  CHECK(events.front()["event"] == "start");
  CHECK(events.front()["points"] == 4);
  CHECK(events.back()["event"] == "result");
  CHECK(events.back()["failed"] == 0);
  CHECK(std::any_of(events.begin(), events.end(), [](const Json& event) {
    return event["event"] == "progress" && event["done"] == 4;
  }));
  const Json results = setting.results("out");
  REQUIRE(results["points"].size() == 4);
  CHECK(results["format"] == "rwkv-press-sweep");
  CHECK(results["metrics"][0]["name"] == "bits_per_byte");
  for (const Json& point : results["points"]) {
    REQUIRE(point["status"] == "done");
    const std::string folder = setting.scratch.file("out/points/" + point["id"].get<std::string>());
    const std::string alone = setting.scratch.file("alone.gguf");
    require_fine(run("rwkv-press", {"convert", setting.input(), "-o", alone, "--force", "--quiet",
                                    "--recipe", folder + "/recipe.yaml", "--vocab", "bytes",
                                    "--calibration", setting.scratch.file("text.txt")}));
    CHECK((read_bytes(alone) == read_bytes(folder + "/model.gguf")));
    CHECK(point["file_bytes"] == fs::file_size(alone));
    CHECK(point["metrics"]["kl"]["value"].get<double>() > 0);
  }
  // k = 8 is smaller than 4, int8 than fp16; not in memory, where a model this small has less in
  // weights than in the integers that int8 products make of their inputs.
  const auto bytes = [&](size_t i, const char* which) {
    return results["points"][i][which].get<int>();
  };
  CHECK(bytes(2, "resident_bytes") < bytes(0, "resident_bytes"));
  CHECK(bytes(3, "resident_bytes") < bytes(1, "resident_bytes"));
  CHECK(bytes(1, "file_bytes") < bytes(0, "file_bytes"));

  SECTION("Finished points are not done again, and results can be put together anew") {
    const auto written = fs::last_write_time(setting.scratch.file(
        "out/points/" + results["points"][0]["id"].get<std::string>() + "/result.json"));
    const std::string before = setting.lasting_results("out");
    fs::remove(setting.scratch.file("out/results.csv"));
    require_fine(run("rwkv-press", {"sweep", "--report-only", setting.scratch.file("out")}));
    CHECK(setting.lasting_results("out") == before);
    require_fine(setting.sweep("out", {"--json-log", log}));
    CHECK(events_in(log).size() > events.size());
    CHECK(fs::last_write_time(setting.scratch.file(
              "out/points/" + results["points"][0]["id"].get<std::string>() + "/result.json")) ==
          written);
  }
}

TEST_CASE("A sweep over what a device has reports memory, speed and loss of each", "[sweep]") {
  const Setting setting(
      "name: widths\ncalibration: {samples: 8, length: 32}\n"
      "stages:\n"
      "  - quantize: {codec: i8_row, min_numbers: 0}\n"
      "  - shards: {widths: [lut4, lut2], piece_kb: 8}\n"
      "axes: {device.weight_bytes: [60kB, 100kB], device.memory_limit: [1500kB], "
      "device.read_speed: [10MB]}\n"
      "evaluate: {text: [text.txt], max_tokens: 200}\n");
  require_fine(setting.sweep("out"));
  const Json points = setting.results("out")["points"];
  REQUIRE(points.size() == 4);  // and the dense model, and int8
  const auto kl = [&](size_t i) { return points[i]["metrics"]["kl"]["value"].get<double>(); };
  for (const size_t i : {0, 1}) {
    INFO(points[i].dump());
    REQUIRE(points[i]["status"] == "done");
    CHECK(points[i]["memory"] == "streamed");
    CHECK(points[i]["resident_bytes"] <= 1'500'000);
    CHECK(points[i]["tokens_per_second"].get<double>() > 0);
  }
  CHECK(points[0]["xxh64"] == points[1]["xxh64"]);
  CHECK(kl(0) > kl(1));
  CHECK(kl(1) > 0);
  CHECK(points[3]["memory"] == "loaded");
  std::ifstream file(
      setting.scratch.file("out/points/" + points[1]["id"].get<std::string>() + "/device.yaml"));
  std::string line;
  std::getline(file, line);
  CHECK(line == "{memory_limit: 1500000, weight_bytes: 100000, read_speed: 10000000}");
}

TEST_CASE("A sweep is checked whole before any work", "[sweep]") {
  const Setting setting;
  struct Case {
    std::string config;
    const char* message;
  };
  const std::string stages = kStages;
  const Case cases[] = {
      {stages + "axes: {low_rnk.factor: [2]}\n", "no stage 'low_rnk'; did you mean 'low_rank'?"},
      {stages + "axes: {low_rank.factr: [2]}\n", "no setting 'factr'; did you mean 'factor'?"},
      {stages + "axes: {quantize.codec: [i8_row, i8row]}\n", "did you mean 'i8_row'?"},
      {stages + "axes: {low_rank.factor: [two]}\n", "low_rank.factor: expected a number"},
      {stages + "axes: {cluster_head: [on, of]}\n", "expected 'on' or 'off' for a stage"},
      {stages + "axes: {low_rank.factor: 2}\n", "expected a list"},
      {stages + "axis: {low_rank.factor: [2]}\n",
       "unknown key 'axis' (line 7); did you mean 'axes'?"},
      {stages + "evaluate: {txt: [a]}\n",
       "unknown key 'evaluate.txt' (line 7); did you mean 'text'?"},
      {stages + "evaluate: {memory: spars}\n", "did you mean 'sparse'?"},
      {"preset: fp16\nrecipe: r.yaml\n", "axes, such as calibration.samples: [32]"},
      {"axes: {low_rank.factor: [2]}\n", "expected one of 'preset', 'recipe' and 'stages'"},
      {"preset: int9\n", "unknown preset 'int9'; did you mean 'int8'?"},
      {"preset: [fp16\n", "not valid YAML"},
  };
  for (const Case& example : cases) {
    setting.configure(example.config);
    const RunResult result = setting.sweep("refused");
    INFO(example.config);
    CHECK(result.exit_code == 2);
    CHECK_THAT(result.err, Contains("sweep.yaml") && Contains(example.message));
    CHECK_FALSE(fs::exists(setting.scratch.file("refused")));
  }
  std::string many = stages + "axes:\n  low_rank.factor: [";
  std::string more = "  low_rank.keep: [";
  for (int i = 1; i <= 50; ++i) {
    many += fmt::format("{}{}", i == 1 ? "" : ", ", i);
    more += fmt::format("{}{}", i == 1 ? "" : ", ", 0.01 * i);
  }
  setting.configure(many + "]\n" + more + "]\n");
  CHECK_THAT(setting.sweep("refused").err, Contains("more than 2000 points"));
  setting.configure(stages);
  CHECK(setting.sweep("refused", {"--shard", "3/2"}).exit_code == 2);
  setting.configure(stages + "evaluate: {text: [missing.txt]}\n");
  CHECK(setting.sweep("refused").exit_code == 3);
}

TEST_CASE("Points that fail or crash do not stop the others", "[sweep]") {
  // One process kills itself in the middle, one point asks for more clusters than there are tokens.
  const Setting setting(
      "name: failing\n"
      "calibration: {samples: 16, length: 32}\n"
      "stages:\n"
      "  - external: {command: \"kill -9 $(cut -d ' ' -f 4 /proc/$PPID/stat); cp {input} "
      "{output}\"}\n"
      "  - cluster_head: {clusters: 12, epochs: 3}\n"
      "  - quantize: {codec: f16}\n"
      "axes:\n"
      "  external: [off, on]\n"
      "  cluster_head.clusters: [12, 1000]\n"
      "evaluate: {speed: false}\n");
  for (int i = 0; i < 2; ++i) {  // the second time they are tried again
    const RunResult result = setting.sweep("out", {"--jobs", "2", "--allow-external"});
    INFO(result.err);
    CHECK(result.exit_code == 1);
    CHECK_THAT(result.err, Contains("3 points failed"));
    const Json results = setting.results("out");
    CHECK(results["points"][0]["status"] == "done");
    CHECK(results["points"][1]["status"] == "failed");
    CHECK_THAT(results["points"][1]["error"].get<std::string>(), Contains("1000 clusters"));
    CHECK_THAT(results["points"][2]["error"].get<std::string>(), Contains("signal 9"));
    CHECK_THAT(results["points"][3]["error"].get<std::string>(), Contains("1000 clusters"));
  }
}

TEST_CASE("Stages are dropped, equal points are one, ablation has a baseline", "[sweep]") {
  const Setting setting(std::string(kStages) +
                        "axes:\n  low_rank: [on, off]\n  low_rank.factor: [4, 8]\n"
                        "ablation: true\nevaluate: {speed: false}\n");
  require_fine(setting.sweep("out"));
  const Json results = setting.results("out");
  // Three of the axes (without low_rank its factor has no effect); none, low_rank alone,
  // cluster_head alone are new ones of the ablation but for the last, and all together is k = 8
  // again.
  std::vector<std::string> labels;
  for (const Json& point : results["points"]) {
    labels.push_back(point["label"].get<std::string>());
  }
  CHECK((labels == std::vector<std::string>{"low_rank=on factor=4", "low_rank=on factor=8",
                                            "low_rank=off factor=4", "none", "low_rank alone",
                                            "cluster_head alone", "quantize alone", "int8"}));
  REQUIRE(results["ablation"].size() == 5);
  CHECK(results["baseline"] == results["ablation"][0]["point"]);
  CHECK(results["ablation"][4]["label"] == "all together");
  CHECK(results["ablation"][4]["point"] == results["points"][1]["id"]);
}

TEST_CASE("A sweep killed at any moment ends with the same results", "[sweep]") {
  const Setting setting;
  require_fine(setting.sweep("whole", {"--jobs", "2"}));
  const std::string whole = setting.lasting_results("whole");
  size_t kills = 0;
  for (const size_t wanted : {0, 1, 2, 3}) {
    Process process(setting.scratch, "killed", setting.arguments("killed", {"--jobs", "2"}));
    REQUIRE(wait_until([&] { return setting.n_done("killed") >= wanted; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(wanted == 0 ? 300 : 10 * wanted));
    process.send(wanted % 2 == 0 ? SIGKILL : SIGTERM);
    kills += process.wait().signal != 0 ? 1 : 0;
  }
  CHECK(kills >= 2);
  require_fine(setting.sweep("killed", {"--jobs", "2"}));
  CHECK(setting.lasting_results("killed") == whole);
  for (const auto& entry : fs::directory_iterator(setting.scratch.file("killed/points"))) {
    CHECK_FALSE(fs::exists(entry.path() / "claim"));
    CHECK_FALSE(fs::exists(entry.path() / "model.gguf"));
  }
}

TEST_CASE("Shards of a sweep make one whole", "[sweep]") {
  const Setting setting(std::string(kStages) + kAxes +
                        "references: false\n"
                        "evaluate: {text: [text.txt], max_tokens: 200, speed: true}\n");
  require_fine(setting.sweep("parts", {"--shard", "1/2"}));
  CHECK(setting.results("parts")["points"][3]["status"] == "missing");
  // A point that a process on another machine works on is not touched until --retry-claimed.
  const std::string id = setting.results("parts")["points"][3]["id"].get<std::string>();
  const std::string claim = setting.scratch.file("parts/points/" + id + "/claim");
  write_text(claim, "elsewhere\n1\n1\n");
  const RunResult second = setting.sweep("parts", {"--shard", "2/2"});
  require_fine(second);
  CHECK_THAT(second.err, Contains("1 points are claimed"));
  CHECK(setting.results("parts")["points"][3]["status"] == "missing");
  // One that a dead process of this machine had is not.
  const Json done = setting.results("parts")["points"][2];
  require_fine(setting.sweep("parts", {"--shard", "2/2", "--retry-claimed"}));
  const Json results = setting.results("parts");
  for (const Json& point : results["points"]) {
    CHECK(point["status"] == "done");
    CHECK(point["tokens_per_second"].get<double>() > 0);
    CHECK(point["tokens_per_second_spread"].size() == 2);
  }
  CHECK(results["points"][2] == done);
}
