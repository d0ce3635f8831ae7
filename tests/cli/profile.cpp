// rwkv-edge profile, and the speeds that its figures foretell.
#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;
using nlohmann::json;

namespace {

using Arguments = std::vector<std::string>;

// 2 MB, of which pieces of half a megabyte can be streamed.
std::string make_model(const ScratchFolder& scratch) {
  TinyModelOptions options = {.version = Version::V7, .codec = Codec::I8Row};
  options.n_layer = 4;
  options.n_embd = 192;
  options.n_head = 3;
  options.dim_ffn = 768;
  return write_tiny_model(scratch, options);
}

json read_json(const std::string& path) {
  std::ifstream file(path);
  return json::parse(file);
}

RunResult profile(const std::string& model, const std::string& output) {
  return run("rwkv-edge",
             {"profile", model, "-o", output, "-t", "1", "-n", "2", "--read-speed", "20MB"});
}

json bench(const std::string& model, const Arguments& more) {
  Arguments arguments = {"bench", model, "--json", "-n",           "8",   "--prompt", "1", "--runs",
                         "1",     "-t",  "1",      "--read-speed", "20MB"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const RunResult result = run("rwkv-edge", arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return json::parse(result.out);
}

}  // namespace

TEST_CASE("A profile has speeds by size and depth, and a speed chosen by it is reached", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = make_model(scratch);
  const std::string device = scratch.file("device.json");
  const RunResult made = profile(model, device);
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  CHECK_THAT(made.out, Contains("MB/s") && Contains("by 1 threads"));
  const json figures = read_json(device);
  // 128 and 512 kB, and 2 MB if the file is that large, by three depths.
  CHECK(figures["reads"].size() >= 6);
  CHECK(figures["reads"].size() % 3 == 0);
  for (const json& row : figures["reads"]) {
    CHECK(row["bytes_per_second"].get<double>() > 1e6);
  }
  CHECK(figures["read_bytes_per_second"].get<double>() > 4e6);
  CHECK(figures["read_bytes_per_second"].get<double>() < 25e6);
  CHECK(figures["compute_seconds"].get<double>() > 0);

  // A speed that needs about half of the weights in memory.
  const json slow = bench(model, {"--memory", "streamed", "--device", device});
  const double lowest = 1 / slow["memory"]["stream"]["predicted_seconds_per_token"].get<double>();
  const json fast = bench(model, {"--device", device, "--speed", fmt::format("{}", 2 * lowest)});
  CHECK(fast["memory"]["mode"] == "streamed");
  CHECK(fast["memory"]["total"].get<double>() > slow["memory"]["total"].get<double>());
  CHECK(fast["memory"]["stream"]["kept_share"].get<double>() > 0.3);
  CHECK(fast["memory"]["stream"]["kept_share"].get<double>() < 0.7);
  const double reached = 1 / fast["runs"][0]["stream"]["seconds_per_token"].get<double>();
  CHECK(reached > 1.3 * lowest);

  const RunResult refused =
      run("rwkv-edge", {"bench", model, "-t", "1", "--device", device, "--speed", "999999"});
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("computing alone allows"));
}

TEST_CASE("Figures of a device that are none are refused by name", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = make_model(scratch);
  const std::string device = scratch.file("device.json");
  const auto refused = [&](const Arguments& arguments, int exit_code, const std::string& says) {
    const RunResult result = run("rwkv-edge", arguments);
    INFO(result.err);
    CHECK(result.exit_code == exit_code);
    CHECK_THAT(result.err, Contains(says));
  };
  for (const char* text :
       {"", "{", "[]", "{\"threads\": 1}",
        "{\"threads\": 1, \"read_bytes_per_second\": -5, \"compute_seconds\": 1}",
        "{\"threads\": 1, \"threads\": 2, \"read_bytes_per_second\": 5, \"compute_seconds\": 1}",
        "{\"x\": {\"threads\": 1, \"read_bytes_per_second\": 5, \"compute_seconds\": 1}}",
        "{\"threads\": 1e9, \"read_bytes_per_second\": 5, \"compute_seconds\": 1}",
        "{\"threads\": 1, \"read_bytes_per_second\": 5, \"compute_seconds\": \"1\"}"}) {
    write_text(device, text);
    refused({"bench", model, "-t", "1", "--device", device, "--speed", "5"}, 3, "device.json");
  }
  refused({"bench", model, "-t", "1", "--speed", "5"}, 2, "rwkv-edge profile -t 1");
  refused({"bench", model, "-t", "1", "--speed", "0"}, 2, "speed");
  refused({"bench", model, "-t", "1", "--device", scratch.file("none.json")}, 3, "none.json");
  // An output that exists, or is the model, stays.
  refused({"profile", model, "-o", device, "-t", "1", "-n", "1"}, 2, "device.json");
  refused({"profile", model, "-o", model, "-t", "1", "-n", "1", "--force"}, 2, "being read");
  refused({"profile", model, "-t", "1"}, 2, "output");
  refused({"profile", scratch.file("none.gguf"), "-o", scratch.file("x.json")}, 3, "none.gguf");
  CHECK_FALSE(std::filesystem::exists(scratch.file("x.json")));
}
