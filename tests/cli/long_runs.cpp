// Conversions that take long: what is said beforehand, progress for programs, the report, and
// going on after an interruption.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/cli/checks.h"
#include "tests/cli/process.h"
#include "tests/support/catch.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

using Arguments = std::vector<std::string>;

// A model, a text, and a recipe whose stages learn from it and train.
class Setting {
 public:
  Setting() {
    const RunResult made =
        run("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "2", "--n-embd", "128",
                           "--n-vocab", "256", "--quiet", "-o", scratch.file("m.pth")});
    INFO(made.err);
    REQUIRE(made.exit_code == 0);
    std::string text;
    for (int i = 0; i < 3000; ++i) {
      text += fmt::format("{} squared is {}.\n", i % 97, (i % 97) * (i % 97));
    }
    write_text(scratch.file("text.txt"), text);
    write_recipe("lut4");
  }
  void write_recipe(const std::string& codec) const {
    write_text(scratch.file("r.yaml"),
               "name: long\ncalibration: {samples: 16, length: 64}\nstages:\n"
               "  - low_rank: {factor: 4}\n  - refit: {}\n"
               "  - train: {steps: 6, batch: 2, length: 32, save_every: 2, warmup: 1, "
               "precision: fp32}\n"
               "  - cluster_head: {clusters: 8, epochs: 2, frequent: 4}\n"
               "  - ffn_predictor: {epochs: 2, hidden: 8}\n"
               "  - quantize: {codec: " +
                   codec + ", min_numbers: 0}\n");
  }
  Arguments arguments(const std::string& folder, const Arguments& more = {}) const {
    fs::create_directories(scratch.file(folder));
    Arguments all = {"convert",
                     scratch.file("m.pth"),
                     "--recipe",
                     scratch.file("r.yaml"),
                     "--calibration",
                     scratch.file("text.txt"),
                     "--train-data",
                     scratch.file("text.txt"),
                     "--vocab",
                     "bytes",
                     "--train-threads",
                     "1",
                     "-o",
                     output(folder)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string output(const std::string& folder) const { return scratch.file(folder + "/m.gguf"); }
  std::string work(const std::string& folder) const { return output(folder) + ".work"; }
  std::string state(const std::string& folder, int n) const {
    return fmt::format("{}/after-stage-{}.safetensors", work(folder), n);
  }
  // Runs until stage `n` is kept, and kills it there.
  void kill_after(const std::string& folder, int n) const {
    const Process process(scratch, folder, arguments(folder, {"--quiet"}));
    REQUIRE(wait_until([&] { return fs::exists(state(folder, n)); }));
    process.send(SIGKILL);
  }

  ScratchFolder scratch;
};

RunResult convert(const Setting& setting, const std::string& folder, const Arguments& more = {}) {
  return run("rwkv-press", setting.arguments(folder, more));
}

std::vector<Json> lines_of(const std::string& path) {
  const std::vector<std::byte> bytes = read_bytes(path);
  std::istringstream text(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  std::vector<Json> lines;
  for (std::string line; std::getline(text, line);) {
    lines.push_back(Json::parse(line));
  }
  return lines;
}

size_t count_events(const std::vector<Json>& lines, const std::string& event) {
  return static_cast<size_t>(std::count_if(lines.begin(), lines.end(),
                                           [&](const Json& l) { return l["event"] == event; }));
}

}  // namespace

TEST_CASE("A conversion killed at any moment goes on, and gives the undisturbed bytes", "[long]") {
  const Setting setting;
  const auto begin = std::chrono::steady_clock::now();
  const RunResult whole = convert(setting, "whole", {"--quiet"});
  const auto took = std::chrono::steady_clock::now() - begin;
  INFO(whole.err);
  REQUIRE(whole.exit_code == 0);
  CHECK_FALSE(fs::exists(setting.work("whole") + "/stages.data"));
  const std::vector<std::byte> expected = read_bytes(setting.output("whole"));

  constexpr int kMoments = 20;
  int n_resumed = 0;
  for (int moment = 1; moment <= kMoments; ++moment) {
    const std::string folder = fmt::format("k{}", moment);
    {
      const Process process(setting.scratch, folder, setting.arguments(folder, {"--quiet"}));
      std::this_thread::sleep_for(took * moment / (kMoments + 1));
      process.send(SIGKILL);
    }
    const RunResult again = convert(setting, folder, {"--resume", "--force"});
    INFO("killed after " << moment << " of " << kMoments << ": " << again.err);
    CHECK(again.exit_code == 0);
    CHECK((read_bytes(setting.output(folder)) == expected));
    CHECK_FALSE(fs::exists(setting.work(folder) + "/stages.data"));
    n_resumed += again.err.find("stages are finished") != std::string::npos ? 1 : 0;
    fs::remove_all(setting.scratch.file(folder));
  }
  CHECK(n_resumed > 0);
}

TEST_CASE("What an interrupted conversion keeps is used only where everything fits", "[long]") {
  const Setting setting;
  REQUIRE(convert(setting, "whole", {"--quiet"}).exit_code == 0);
  const std::vector<std::byte> expected = read_bytes(setting.output("whole"));

  SECTION("without --resume it is refused, and says how to go on") {
    setting.kill_after("a", 2);
    const RunResult plain = convert(setting, "a");
    CHECK(plain.exit_code == 2);
    CHECK_THAT(plain.err, Contains("finished stage") && Contains("--resume"));
    const RunResult resumed = convert(setting, "a", {"--resume"});
    INFO(resumed.err);
    CHECK(resumed.exit_code == 0);
    CHECK_THAT(resumed.err, Contains("stages are finished"));
    CHECK((read_bytes(setting.output("a")) == expected));
  }
  SECTION("stages whose settings changed run again, and that is said") {
    setting.kill_after("b", 1);
    setting.write_recipe("i8_row");
    const RunResult other =
        convert(setting, "b", {"--resume", "--set", "low_rank.factor=8", "--quiet"});
    // A training that began from other factors must not go on.
    const bool is_refused =
        other.exit_code == 2 && other.err.find("has snapshots of a training") != std::string::npos;
    CHECK((is_refused || other.exit_code == 0));
    fs::remove_all(setting.work("b"));
    const RunResult fresh = convert(setting, "b", {"--set", "low_rank.factor=8", "--force"});
    INFO(fresh.err);
    REQUIRE(fresh.exit_code == 0);
    const RunResult same = convert(setting, "c", {"--set", "low_rank.factor=8"});
    REQUIRE(same.exit_code == 0);
    CHECK((read_bytes(setting.output("b")) == read_bytes(setting.output("c"))));
  }
  SECTION("a damaged state is passed over for the one before it") {
    setting.kill_after("d", 2);
    std::vector<std::byte> bytes = read_bytes(setting.state("d", 2));
    bytes[bytes.size() / 2] ^= std::byte{4};
    write_bytes(setting.state("d", 2), bytes);
    const RunResult resumed = convert(setting, "d", {"--resume"});
    INFO(resumed.err);
    CHECK(resumed.exit_code == 0);
    CHECK_THAT(resumed.err, Contains("passed over"));
    CHECK((read_bytes(setting.output("d")) == expected));
  }
  SECTION("damaged data are noticed") {
    setting.kill_after("e", 2);
    const std::string path = setting.work("e") + "/stages.data";
    std::vector<std::byte> bytes = read_bytes(path);
    bytes[10] ^= std::byte{1};
    write_bytes(path, bytes);
    const RunResult resumed = convert(setting, "e", {"--resume"});
    INFO(resumed.err);
    CHECK(resumed.exit_code == 0);
    CHECK_THAT(resumed.err, Contains("passed over") && Contains("checksum"));
    CHECK((read_bytes(setting.output("e")) == expected));
  }
  SECTION("another checkpoint is not this one") {
    setting.kill_after("f", 1);
    const RunResult made =
        run("rwkv-press",
            {"synth", "--arch", "v5.2", "--n-layer", "2", "--n-embd", "128", "--n-vocab", "256",
             "--seed", "9", "--quiet", "--force", "-o", setting.scratch.file("m.pth")});
    REQUIRE(made.exit_code == 0);
    const RunResult resumed = convert(setting, "f", {"--resume"});
    CHECK_THAT(resumed.err, Contains("kept 'checkpoint:"));
    CHECK((resumed.exit_code == 0 || resumed.err.find("snapshots") != std::string::npos));
  }
}

TEST_CASE("Ctrl-C during a conversion says what is kept", "[long]") {
  const Setting setting;
  Process process(setting.scratch, "i", setting.arguments("i"));
  REQUIRE(wait_until([&] { return fs::exists(setting.state("i", 1)); }));
  process.send(SIGINT);
  const RunResult ended = process.wait();
  INFO(ended.err);
  CHECK((ended.signal == SIGINT || ended.exit_code == 1));
  CHECK_THAT(ended.err, Contains("--resume"));
  const RunResult resumed = convert(setting, "i", {"--resume", "--quiet"});
  INFO(resumed.err);
  CHECK(resumed.exit_code == 0);
}

TEST_CASE("Work that does not fit is refused beforehand, with the setting that would", "[long]") {
  const Setting setting;
  const RunResult refused = convert(setting, "r", {"--max-memory", "1MB"});
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("are available") && Contains("--ignore-estimate"));
  CHECK_FALSE(fs::exists(setting.output("r")));
  const RunResult all_the_same =
      convert(setting, "r", {"--max-memory", "1MB", "--ignore-estimate", "--quiet"});
  INFO(all_the_same.err);
  CHECK(all_the_same.exit_code == 0);
  CHECK_THAT(convert(setting, "s").err, Contains("estimate (") && Contains("low_rank") &&
                                            Contains("pack") && Contains("in all"));

  // A training whose activations are most of it.
  write_text(setting.scratch.file("t.yaml"),
             "train: {steps: 2, batch: 256, micro_batch: 256, length: 512, warmup: 1}\n");
  const RunResult large =
      run("rwkv-press",
          {"train", setting.scratch.file("m.pth"), "--config", setting.scratch.file("t.yaml"),
           "--data", setting.scratch.file("text.txt"), "--vocab", "bytes", "--max-memory", "2GB",
           "-o", setting.scratch.file("t.pth")});
  INFO(large.err);
  CHECK(large.exit_code == 2);
  CHECK_THAT(large.err, Contains("train: expected to take") && Contains("--set train."));
}

TEST_CASE("plan tells memory, disk and time of a conversion, for people and programs", "[long]") {
  const Setting setting;
  const Arguments plan = {"plan", setting.scratch.file("m.pth"), "--recipe",
                          setting.scratch.file("r.yaml")};
  CHECK_THAT(output_of("rwkv-press", plan), Contains("estimate of a conversion"));
  Arguments json = plan;
  json.push_back("--json");
  const Json estimate = Json::parse(output_of("rwkv-press", json))["estimate"];
  REQUIRE(estimate["stages"].size() == 7);
  uint64_t disk = 0;
  for (const Json& stage : estimate["stages"]) {
    CHECK(stage["memory"].get<uint64_t>() <= estimate["memory"].get<uint64_t>());
    CHECK(stage["seconds"].get<double>() >= 0);
    disk += stage["disk"].get<uint64_t>();
  }
  CHECK(disk == estimate["disk"].get<uint64_t>());
  CHECK(estimate["machine"]["products_per_second"].get<double>() > 1e8);
  // More text takes more of both.
  json.insert(json.end(), {"--set", "calibration.samples=512"});
  const Json more = Json::parse(output_of("rwkv-press", json))["estimate"];
  CHECK(more["memory"].get<uint64_t>() > estimate["memory"].get<uint64_t>());
}

TEST_CASE("A JSON log has every stage, and replaces only its like", "[long]") {
  const Setting setting;
  const std::string log = setting.scratch.file("log.jsonl");
  const RunResult done = convert(setting, "j", {"--json-log", log, "--quiet"});
  INFO(done.err);
  REQUIRE(done.exit_code == 0);
  const std::vector<Json> lines = lines_of(log);
  CHECK(lines.front()["event"] == "start");
  CHECK(lines.back()["event"] == "result");
  CHECK(count_events(lines, "estimate") == 1);
  CHECK(count_events(lines, "stage_begin") == 7);
  CHECK(count_events(lines, "stage_end") == 7);
  for (const Json& line : lines) {
    CHECK(line["time"].get<double>() > 1e9);
    if (line["event"] == "stage_end") {
      CHECK(line["peak_memory"].get<uint64_t>() > 1'000'000);
      CHECK(line["seconds"].get<double>() > 0);
    }
  }
  CHECK(lines.back()["bytes"] == fs::file_size(setting.output("j")));
  check_refused("rwkv-press",
                setting.arguments("j", {"--force", "--json-log", setting.scratch.file("text.txt")}),
                2, "expected a log of rwkv-press");
  // A run that fails says so in its log.
  const RunResult failed =
      convert(setting, "j2", {"--max-memory", "1MB", "--json-log", log, "--quiet"});
  CHECK(failed.exit_code == 2);
  CHECK(lines_of(log).back()["event"] == "error");
}

TEST_CASE("The report states bytes, bits and error of every tensor, and replaces only its like",
          "[long]") {
  const Setting setting;
  const RunResult done = convert(setting, "p", {"--quiet"});
  INFO(done.err);
  REQUIRE(done.exit_code == 0);
  const std::string path = setting.output("p") + ".report.json";
  const std::vector<std::byte> bytes = read_bytes(path);
  const Json report = Json::parse(reinterpret_cast<const char*>(bytes.data()),
                                  reinterpret_cast<const char*>(bytes.data()) + bytes.size());
  CHECK(report["format"] == "rwkv-press report");
  CHECK(report["output"]["bytes"] == fs::file_size(setting.output("p")));
  CHECK(report["stages"].size() == 7);
  uint64_t total = 0;
  size_t n_errors = 0;
  for (const Json& tensor : report["tensors"]) {
    total += tensor["bytes"].get<uint64_t>();
    if (tensor["codec"] == "f32") {
      CHECK(tensor["bits"] == 32.0);
    }
    if (tensor.contains("error")) {
      ++n_errors;
      CHECK(tensor["error"].get<double>() >= 0);
      // The training moved vectors that were almost zero.
      CHECK((tensor["role"] == "vector" || tensor["error"].get<double>() < 1));
    }
  }
  CHECK(total < fs::file_size(setting.output("p")));
  CHECK(n_errors > 10);
  REQUIRE(report["pairs"].size() >= 10);
  for (const Json& pair : report["pairs"]) {
    CHECK(pair["error"].get<double>() > 0);
    CHECK(pair["error"].get<double>() < 1.5);
    CHECK(pair["output_error"].get<double>() >= 0);
  }
  // Again over its like, and never over another file.
  CHECK(convert(setting, "p", {"--quiet", "--force", "--resume"}).exit_code == 0);
  write_text(path, "{}");
  check_refused("rwkv-press", setting.arguments("p", {"--force", "--quiet"}), 2,
                "expected a report of rwkv-press");
  const RunResult none = run("rwkv-press", {"convert", setting.scratch.file("m.pth"), "--quiet",
                                            "--no-report", "-o", setting.scratch.file("n.gguf")});
  CHECK(none.exit_code == 0);
  CHECK_FALSE(fs::exists(setting.scratch.file("n.gguf.report.json")));
}

TEST_CASE("The last lines of a conversion set it against fp16", "[long]") {
  const Setting setting;
  const RunResult done =
      run("rwkv-press", {"convert", setting.scratch.file("m.pth"), "--preset", "int8", "--quiet",
                         "-o", setting.scratch.file("a.gguf")});
  REQUIRE(done.exit_code == 0);
  CHECK_THAT(done.out, Contains("against fp16: file ") && Contains("read per token"));
  const size_t at = done.out.find("against fp16");
  CHECK_THAT(done.out.substr(at), Contains("layerwise") && Contains("full"));
  // fp16 against itself is 1/1.00, in every mode.
  const RunResult same = run("rwkv-press", {"convert", setting.scratch.file("m.pth"), "--quiet",
                                            "-o", setting.scratch.file("b.gguf")});
  std::istringstream lines(same.out.substr(same.out.find("against fp16")));
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    CHECK(line.find("(1/1.00)") != std::string::npos);
  }
}
