// Whose folder a sweep's is: another configuration is refused, while it works and afterwards; and
// what a folder from a stranger may hold.
#include <fmt/format.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "tests/cli/checks.h"
#include "tests/cli/process.h"
#include "tests/support/catch.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

using Arguments = std::vector<std::string>;

// A model, and two configurations. The points of the first wait until somebody lets them go on.
class Bench {
 public:
  Bench() {
    output_of("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "1", "--n-embd", "64",
                             "--n-vocab", "256", "-o", scratch.file("m.pth"), "--quiet"});
    write_text(scratch.file("first.yaml"),
               fmt::format("references: false\nevaluate: {{speed: false}}\nstages:\n"
                           "  - external: {{command: \"touch '{0}'; while [ ! -e '{1}' ]; do sleep "
                           "0.02; done; cp {{input}} {{output}}\"}}\n"
                           "  - quantize: {{codec: f16}}\n"
                           "axes: {{quantize.codec: [f16, i8_row]}}\n",
                           scratch.file("waits"), scratch.file("go")));
    write_text(scratch.file("second.yaml"),
               "references: false\nevaluate: {speed: false}\nstages: [quantize: {codec: f16}]\n"
               "axes: {quantize.min_numbers: [0, 1, 2, 3]}\n");
  }
  Arguments words(const std::string& config, const Arguments& more = {}) const {
    Arguments all = {"sweep",    scratch.file("m.pth"),
                     "--config", scratch.file(config),
                     "-o",       out(),
                     "--vocab",  "bytes",
                     "--quiet",  "--allow-external"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  RunResult sweep(const std::string& config, const Arguments& more = {}) const {
    return run("rwkv-press", words(config, more));
  }
  void let_go() const { write_text(scratch.file("go"), ""); }
  bool waits() const { return fs::exists(scratch.file("waits")); }
  std::string out() const { return scratch.file("out"); }
  // Every file in the folder, with its bytes.
  std::map<std::string, std::vector<std::byte>> files() const {
    std::map<std::string, std::vector<std::byte>> all;
    for (const auto& entry : fs::recursive_directory_iterator(out())) {
      if (entry.is_regular_file()) {
        all[entry.path().string()] = read_bytes(entry.path().string());
      }
    }
    return all;
  }
  Json json(const std::string& name) const {
    std::ifstream file(out() + "/" + name);
    return Json::parse(file);
  }
  void write(const std::string& name, const Json& json) const {
    write_text(out() + "/" + name, json.dump());
  }
  size_t n_done() const {
    const Json results = json("results.json");
    return static_cast<size_t>(
        std::count_if(results["points"].begin(), results["points"].end(),
                      [](const Json& point) { return point["status"] == "done"; }));
  }

  ScratchFolder scratch;
};

void require_fine(const RunResult& result) {
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
}

}  // namespace

TEST_CASE("A second sweep in a folder where one works is refused by name", "[sweep]") {
  const Bench bench;
  Process first(bench.scratch, "first", bench.words("first.yaml"));
  REQUIRE(wait_until([&] { return bench.waits(); }));
  const RunResult second = bench.sweep("second.yaml");
  CHECK(second.exit_code == 2);
  CHECK_THAT(second.err, Contains("another sweep works in this folder: process ") &&
                             Contains(" since 20") && Contains("first.yaml (configuration ") &&
                             Contains("choose another folder with -o"));
  CHECK(bench.sweep("second.yaml", {"--changed"}).exit_code == 2);
  // One of the same configuration may work there too.
  Process helper(bench.scratch, "helper", bench.words("first.yaml", {"--shard", "2/2"}));
  bench.let_go();
  const RunResult ended = first.wait();
  INFO(ended.err);
  CHECK(ended.exit_code == 0);
  CHECK(helper.wait().exit_code == 0);
  CHECK(bench.n_done() == 2);
  CHECK(bench.json("results.json")["points"].size() == 2);
}

TEST_CASE("A sweep that has ended keeps its folder, and says what is there", "[sweep]") {
  const Bench bench;
  bench.let_go();
  require_fine(bench.sweep("first.yaml"));
  const auto before = bench.files();
  const RunResult second = bench.sweep("second.yaml");
  CHECK(second.exit_code == 2);
  CHECK_THAT(second.err, Contains("holds another sweep, left by process ") &&
                             Contains("first.yaml") && Contains("2 of 2 points are finished") &&
                             Contains("--changed"));
  CHECK(bench.files() == before);
  require_fine(bench.sweep("first.yaml"));
  // Allowed, it goes on there: nothing of the earlier points is removed.
  require_fine(bench.sweep("second.yaml", {"--changed"}));
  CHECK(bench.json("results.json")["points"].size() == 4);
  for (const auto& [name, bytes] : before) {
    CHECK((name.find("/points/") == std::string::npos || fs::exists(name)));
  }
  CHECK_THAT(bench.sweep("first.yaml").err, Contains("second.yaml"));
}

TEST_CASE("A sweep killed by SIGKILL leaves its folder to its like", "[sweep]") {
  const Bench bench;
  for (int i = 0; i < 3; ++i) {
    fs::remove(bench.scratch.file("waits"));
    Process process(bench.scratch, "killed", bench.words("first.yaml", {"--jobs", "2"}));
    REQUIRE(wait_until([&] { return bench.waits(); }));
    process.send(SIGKILL);
    CHECK(process.wait().signal == SIGKILL);
    CHECK_THAT(bench.sweep("second.yaml").err, Contains("holds another sweep"));
  }
  bench.let_go();
  require_fine(bench.sweep("first.yaml"));
  CHECK(bench.n_done() == 2);
}

TEST_CASE("Shards that begin at once share a folder", "[sweep]") {
  const Bench bench;
  require_fine(bench.sweep("second.yaml"));
  std::vector<std::string> whole;
  const Json results = bench.json("results.json");
  for (const Json& point : results["points"]) {
    whole.push_back(point["xxh64"].get<std::string>());
  }
  fs::remove_all(bench.out());
  std::vector<std::unique_ptr<Process>> shards;
  for (const char* shard : {"1/3", "2/3", "3/3", "1/1"}) {
    shards.push_back(std::make_unique<Process>(bench.scratch, fmt::format("shard{}", shards.size()),
                                               bench.words("second.yaml", {"--shard", shard})));
  }
  for (const auto& shard : shards) {
    const RunResult result = shard->wait();
    INFO(result.err);
    CHECK(result.exit_code == 0);
  }
  require_fine(run("rwkv-press", {"sweep", "--report-only", bench.out()}));
  const Json points = bench.json("results.json")["points"];
  REQUIRE(points.size() == whole.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    CHECK(points[i]["status"] == "done");
    CHECK(points[i]["xxh64"] == whole[i]);
  }
}

TEST_CASE("A sweep does not move into a folder with other things of these names", "[sweep]") {
  const Bench bench;
  for (const char* name : {"shared", "points"}) {
    fs::create_directories(bench.out() + "/" + name);
    const std::string precious = bench.out() + "/" + name + "/precious.txt";
    write_text(precious, "mine");
    for (const Arguments& more : {Arguments{}, Arguments{"--changed"}}) {
      check_refused("rwkv-press", bench.words("second.yaml", more), 2, "is not of a sweep");
    }
    CHECK(fs::exists(precious));
    fs::remove_all(bench.out());
  }
  // Other things may be there.
  fs::create_directories(bench.out());
  write_text(bench.out() + "/notes.txt", "mine");
  require_fine(bench.sweep("second.yaml"));
  CHECK(fs::exists(bench.out() + "/notes.txt"));
}

TEST_CASE("Links in a received folder lead nowhere", "[sweep]") {
  const Bench bench;
  require_fine(bench.sweep("second.yaml"));
  const std::string point =
      bench.out() + "/points/" + bench.json("sweep.json")["points"][0]["id"].get<std::string>();
  const std::string target = bench.scratch.file("target");
  fs::create_directory(target);
  write_text(target + "/secret", "secret");
  const Arguments report = {"sweep", "--report-only", bench.out()};
  for (const std::string& link :
       {bench.out() + "/shared", bench.out() + "/results.csv", bench.out() + "/sweep.lock",
        point + "/recipe.yaml", point + "/log.txt", point + "/train", point}) {
    INFO(link);
    std::error_code ignored;  // of a name that is not there
    fs::rename(link, bench.scratch.file("aside"), ignored);
    fs::create_symlink(link.ends_with("train") || link == point || link.ends_with("shared")
                           ? target
                           : target + "/secret",
                       link);
    check_refused("rwkv-press", bench.words("second.yaml"), 2, "found a link");
    check_refused("rwkv-press", report, 2, "found a link");
    CHECK(read_bytes(target + "/secret").size() == 6);
    fs::remove(link);
    fs::rename(bench.scratch.file("aside"), link, ignored);
  }
  require_fine(run("rwkv-press", report));
}

TEST_CASE("Ids and values of a received sweep are checked before they are used", "[sweep]") {
  const Bench bench;
  require_fine(bench.sweep("second.yaml"));
  const Arguments report = {"sweep", "--report-only", bench.out()};
  const Json manifest = bench.json("sweep.json");
  const std::string secret = bench.scratch.file("recipe.yaml");
  write_text(secret, "secret");
  for (const char* id :
       {"../..", "../../", "..", ".", "", "/etc", "0000-0123456789abcdef/../../..",
        "0000-0123456789ABCDEF", "0000-0123456789abcde", "000-0123456789abcdef",
        "0000-0123456789abcdef\n", "0000-0123456789abcdef\x1b[2J", "x000-0123456789abcdef",
        "0000_0123456789abcdef", "0000000000-0123456789abcdef"}) {
    INFO(id);
    Json changed = manifest;
    changed["points"][0]["id"] = id;
    bench.write("sweep.json", changed);
    check_refused("rwkv-press", report, 3, "points[0].id");
    CHECK_THAT(run("rwkv-press", report).err, !Contains("\x1b"));
    changed = manifest;
    changed["baseline"] = id;
    bench.write("sweep.json", changed);
    check_refused("rwkv-press", report, 3, "baseline");
  }
  const std::pair<const char*, Json> wrong[] = {
      {"/title", 5},
      {"/points", 5},
      {"/points/0", 5},
      {"/points/0/label", 5},
      {"/points/0/settings", 5},
      {"/points/0/settings", {{"a", 5}}},
      {"/axes", {{}}},
      {"/axes/0", Json::object()},
      {"/axes/0/name", 5},
      {"/model", 5},
      {"/machine", 5},
      {"/ablation", {{{"label", "x"}}}},
  };
  for (const auto& [pointer, value] : wrong) {
    INFO(pointer << " " << value.dump());
    Json changed = manifest;
    changed[Json::json_pointer(pointer)] = value;
    bench.write("sweep.json", changed);
    check_refused("rwkv-press", report, 3, "sweep.json");
  }
  write_text(bench.out() + "/sweep.json",
             "{\"a\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}");
  check_refused("rwkv-press", report, 3, "levels");
  write_text(bench.out() + "/sweep.json", "{\"title\": \"x\", " + manifest.dump().substr(1));
  check_refused("rwkv-press", report, 3, "the key 'title' twice");
  Json wide = manifest;
  for (int i = 0; i < 5000; ++i) {
    wide["machine"][std::to_string(i)] = 0;
  }
  bench.write("sweep.json", wide);
  check_refused("rwkv-press", report, 3, "at most 4096");
  bench.write("sweep.json", manifest);
  const std::string result =
      "points/" + manifest["points"][0]["id"].get<std::string>() + "/result.json";
  const Json before = bench.json(result);
  for (const auto& [key, value] : {std::pair<const char*, Json>{"file_bytes", "x"},
                                   {"memory", 5},
                                   {"metrics", 5},
                                   {"metrics", {{"kl", 5}}},
                                   {"metrics", {{"kl", {{"value", "x"}}}}}}) {
    Json changed = before;
    changed[key] = value;
    bench.write(result, changed);
    check_refused("rwkv-press", report, 3, "result.json");
  }
}

TEST_CASE("Names in a received sweep are text on the terminal and on the page", "[sweep]") {
  const Bench bench;
  require_fine(bench.sweep("second.yaml"));
  const std::string hostile = "\x1b[2J\x1b]0;x\x07</script><script>alert(1)</script>\u202e\n";
  Json manifest = bench.json("sweep.json");
  manifest["title"] = hostile;
  manifest["points"][0]["label"] = hostile;
  manifest["points"][1]["label"] = hostile;
  manifest["axes"][0]["name"] = hostile;
  bench.write("sweep.json", manifest);
  const std::string folder =
      bench.out() + "/points/" + manifest["points"][1]["id"].get<std::string>();
  fs::remove(folder + "/result.json");
  write_text(folder + "/error.txt", hostile);
  const RunResult shown = run("rwkv-press", {"sweep", "--report-only", bench.out()});
  require_fine(shown);
  for (const char* raw : {"\x1b", "\x07", "\u202e"}) {
    CHECK_THAT(shown.out, !Contains(raw));
  }
  CHECK_THAT(shown.out, Contains("\\x1b[2J"));
  const auto bytes = read_bytes(bench.out() + "/report.html");
  const std::string page(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  CHECK_THAT(page, !Contains("<script>alert(1)"));
  CHECK_THAT(page, !Contains("\x1b"));
}
