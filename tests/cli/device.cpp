// What a device will take, as convert, plan, inspect and the device's own program say it; a file
// that is its own output; the words at the end of a conversion.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/cli/checks.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

using Arguments = std::vector<std::string>;

std::string synth(const ScratchFolder& scratch, const std::string& n_vocab = "256") {
  const std::string path = scratch.file("m.pth");
  const RunResult made =
      run("rwkv-press", {"synth", "--arch", "v7", "--n-layer", "4", "--n-embd", "128", "--n-vocab",
                         n_vocab, "--seed", "1", "--quiet", "--force", "-o", path});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  return path;
}

// Converts with all of RWKV-Lite, quickly.
RunResult convert_lite(const ScratchFolder& scratch, const std::string& input) {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    text += fmt::format("{} ", i * i % 977);
  }
  write_text(scratch.file("text.txt"), text);
  return run("rwkv-press",
             {"convert", input, "-o", scratch.file("lite.gguf"), "--preset", "rwkv-lite-int8",
              "--vocab", "bytes", "--calibration", scratch.file("text.txt"), "--set",
              "calibration.samples=8", "--set", "calibration.length=64", "--set",
              "ffn_predictor.epochs=2", "--set", "cluster_head.clusters=20", "--quiet"});
}

// The account of the device's program, without the bytes of the program itself.
uint64_t bytes_on_device(const std::string& model, const std::string& mode) {
  const RunResult bench = run("rwkv-edge", {"bench", model, "--json", "-n", "1", "--prompt", "1",
                                            "--runs", "1", "-t", "1", "--memory", mode});
  INFO(bench.err);
  REQUIRE(bench.exit_code == 0);
  const Json memory = Json::parse(bench.out)["memory"];
  return memory["total"].get<uint64_t>() -
         memory["components"]["program"]["resident"].get<uint64_t>();
}

std::string megabytes(uint64_t bytes) {
  return fmt::format("{:.{}f} MB", static_cast<double>(bytes) * 1e-6, bytes < 10'000'000 ? 2 : 1);
}

}  // namespace

TEST_CASE("convert, plan and inspect say what the device will take", "[device]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string packed = scratch.file("m.gguf");
  const RunResult converted =
      run("rwkv-press", {"convert", input, "-o", packed, "--preset", "int8", "--quiet"});
  REQUIRE(converted.exit_code == 0);
  const Json plan =
      Json::parse(output_of("rwkv-press", {"plan", input, "--preset", "int8", "--json"}))["device"];
  const Json seen = Json::parse(output_of("rwkv-press", {"inspect", packed, "--json"}))["device"];
  CHECK(plan == seen);
  CHECK(Json::parse(output_of("rwkv-edge", {"inspect", packed, "--json"}))["device"] == seen);
  REQUIRE(seen.size() == 6);
  for (const Json& mode : seen) {
    INFO(mode.dump());
    const auto resident = mode["resident"].get<uint64_t>();
    CHECK(resident == bytes_on_device(packed, mode["mode"].get<std::string>()));
    CHECK_THAT(converted.out, Contains(megabytes(resident)));
    CHECK(mode["made_for"] == (mode["mode"] == "full"));
  }
  CHECK_THAT(converted.out, Contains("times smaller than") && Contains("in fp16"));
}

TEST_CASE("A file made for reading rows opens so, and states how many it reads", "[device]") {
  const ScratchFolder scratch;
  const RunResult converted = convert_lite(scratch, synth(scratch));
  INFO(converted.err);
  REQUIRE(converted.exit_code == 0);
  CHECK_THAT(converted.out, Contains("opens so"));
  const std::string lite = scratch.file("lite.gguf");
  const Json report = Json::parse(output_of("rwkv-edge", {"inspect", lite, "--json"}));
  CHECK(report["metadata"]["press.read.neurons"].get<double>() < 1);
  CHECK(report["metadata"]["press.read.head"].get<double>() < 1);
  for (const Json& mode : report["device"]) {
    CHECK(mode["made_for"] == (mode["mode"] == "sparse"));  // windowed where models are larger
    CHECK(mode["is_bound"] == false);
  }
  const Arguments generate = {"generate", lite, "-p", "12", "-n", "4", "--temp", "0", "--stats"};
  const auto with = [&](const Arguments& more) {
    Arguments all = generate;
    all.insert(all.end(), more.begin(), more.end());
    return run("rwkv-edge", all);
  };
  const RunResult alone = with({});
  REQUIRE(alone.exit_code == 0);
  CHECK_THAT(alone.err,
             Contains("memory: sparse") && Contains("per token") && Contains("memory sparse,"));
  const RunResult told = with({"--memory", "loaded"});
  CHECK_THAT(told.err, Contains("memory loaded\n") && !Contains("memory: "));
  CHECK(told.out == alone.out);
}

TEST_CASE("A memory limit is answered with what was chosen", "[device]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string packed = scratch.file("m.gguf");
  REQUIRE(run("rwkv-press", {"convert", input, "-o", packed, "--vocab", "bytes", "--quiet"})
              .exit_code == 0);
  const auto with_limit = [&](const std::string& limit) {
    return run("rwkv-edge", {"generate", packed, "-p", "12", "-n", "4", "--temp", "0", "-t", "1",
                             "--memory-limit", limit});
  };
  const RunResult all = with_limit("1G");
  CHECK_THAT(all.err, Contains("memory: full, "));
  CHECK_THAT(with_limit("512 MiB").err, Contains("memory: full, "));
  CHECK_THAT(with_limit("512M").err, Contains("memory: full, "));
  const Json device = Json::parse(output_of("rwkv-edge", {"inspect", packed, "--json"}))["device"];
  const uint64_t least = device.back()["resident"].get<uint64_t>();
  const uint64_t most = device.front()["resident"].get<uint64_t>();
  // Halfway from one block in memory to everything; the refusal of less counts the program too.
  const std::string refusal = with_limit("1kB").err;
  const std::string says = "smallest possible limit is ";
  REQUIRE(refusal.find(says) != std::string::npos);
  const uint64_t smallest = std::stoull(refusal.substr(refusal.find(says) + says.size()));
  const RunResult part = with_limit(std::to_string(smallest + (most - least) / 2));
  INFO(part.err);
  CHECK(part.exit_code == 0);
  CHECK_THAT(part.err, Contains("memory: ") && Contains("per token") && !Contains("memory: full"));
  CHECK(part.out == all.out);
}

TEST_CASE("A checkpoint is not replaced while it is read", "[device]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const auto before = read_bytes(input);
  const std::string link = scratch.file("link.gguf");
  const std::string twin = scratch.file("twin.gguf");
  fs::create_symlink(input, link);
  fs::create_hard_link(input, twin);
  for (const std::string& output : {input, link, twin, scratch.file("./m.pth")}) {
    INFO(output);
    check_refused("rwkv-press", {"convert", input, "-o", output, "--force", "--quiet"}, 2,
                  "would destroy it");
  }
  check_refused("rwkv-press", {"export", input, "-o", input, "--force", "--quiet"}, 2,
                "would destroy it");
  write_text(scratch.file("r.yaml"), "preset: int8\n");
  check_refused("rwkv-press",
                {"convert", input, "-o", scratch.file("r.yaml"), "--recipe", scratch.file("r.yaml"),
                 "--force", "--quiet"},
                2, "which is being read");
  CHECK(read_bytes(input) == before);
  // In every command with an output, for every file that it reads.
  const std::string safe = scratch.file("safe.safetensors");
  write_text(scratch.file("t.txt"), std::string(3000, 'x'));
  write_text(scratch.file("train.yaml"),
             "model: {version: v5.2, n_layer: 1, n_embd: 64, n_vocab: 256}\n"
             "train: {steps: 1, batch: 1, length: 16, distill: 1}\n");
  write_text(scratch.file("only.yaml"), "train: {steps: 1, batch: 1, length: 16, distill: 1}\n");
  REQUIRE(run("rwkv-press", {"export", input, "-o", safe, "--quiet"}).exit_code == 0);
  const auto kept = read_bytes(safe);
  const std::string text = scratch.file("t.txt");
  const std::vector<std::pair<std::vector<std::string>, const char*>> refused = {
      {{"train", input, "--config", scratch.file("only.yaml"), "--data", text, "--vocab", "bytes",
        "-o", input},
       "would destroy it"},
      {{"train", "--config", scratch.file("train.yaml"), "--teacher", safe, "--data", text,
        "--vocab", "bytes", "-o", safe},
       "would destroy it"},
      {{"calibrate", safe, "--calibration", text, "--vocab", "bytes", "-o", safe},
       "would destroy it"},
      {{"calibrate", input, "--calibration", text, "--vocab", "bytes", "-o", text},
       "which is being read"},
      {{"plan", input, "--fit", "20MB", "--text", text, "--vocab", "bytes", "-o", input},
       "would destroy it"},
      {{"plan", input, "--fit", "20MB", "--text", text, "--vocab", "bytes", "-o", text},
       "which is being read"},
      {{"export", input, "--merge", safe, "-o", safe}, "which is being read"},
  };
  for (const auto& [arguments, message] : refused) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--force", "--quiet"});
    INFO(arguments[0] << " -o " << arguments.back());
    check_refused("rwkv-press", all, 2, message);
  }
  CHECK(read_bytes(input) == before);
  CHECK(read_bytes(safe) == kept);

  // A packed file may replace itself, and the sizes are those of before and after.
  const std::string packed = scratch.file("p.gguf");
  REQUIRE(run("rwkv-press", {"convert", input, "-o", packed, "--quiet"}).exit_code == 0);
  const RunResult again =
      run("rwkv-press", {"convert", packed, "-o", packed, "--preset", "int8", "--force"});
  INFO(again.err);
  REQUIRE(again.exit_code == 0);
  CHECK_THAT(again.out, Contains("times smaller than " + packed));
  const RunResult same =
      run("rwkv-press", {"convert", packed, "-o", packed, "--preset", "int8", "--force"});
  CHECK_THAT(same.out, Contains("about as large as " + packed) && !Contains("1.00"));
}

TEST_CASE("What is missing or odd is said", "[device]") {
  const ScratchFolder scratch;
  const std::string world = synth(scratch, "65536");
  const RunResult without =
      run("rwkv-press", {"convert", world, "-o", scratch.file("v.bin"), "--preset", "int8"});
  INFO(without.err);
  REQUIRE(without.exit_code == 0);
  const std::string last = without.out.substr(without.out.rfind('\n', without.out.size() - 2) + 1);
  CHECK_THAT(last, Contains("no vocabulary") && Contains("rwkv_vocab_v20230424.txt"));
  CHECK_THAT(without.err, Contains("v.bin will be a GGUF file"));
  check_refused(
      "rwkv-press",
      {"convert", world, "-o", scratch.file("x.gguf"), "--preset", "int8", "--preset", "fp16"}, 2,
      "--preset: expected one, found 2");
  const std::string small = synth(scratch);
  const RunResult binary =
      run("rwkv-press", {"calibrate", small, "-o", scratch.file("s.safetensors"), "--calibration",
                         executable("rwkv-edge"), "--vocab", "bytes", "--samples", "4", "--length",
                         "16", "--quiet"});
  CHECK(binary.exit_code == 0);
  CHECK_THAT(binary.err, Contains("looks like a binary file"));
}

TEST_CASE("inspect shows ten lines, and more on request", "[device]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string packed = scratch.file("m.gguf");
  REQUIRE(run("rwkv-press",
              {"convert", input, "-o", packed, "--preset", "int8", "--vocab", "bytes", "--quiet"})
              .exit_code == 0);
  for (const char* program : {"rwkv-press", "rwkv-edge"}) {
    const std::string brief = output_of(program, {"inspect", packed});
    CHECK(std::count(brief.begin(), brief.end(), '\n') <= 15);
    CHECK_THAT(brief, Contains("v7, 4 layers x 128") && Contains("int8") && Contains("i8_row") &&
                          Contains("windowed") && !Contains("blocks.0"));
    CHECK_THAT(output_of(program, {"inspect", packed, "--tensors"}),
               Contains("blocks.0.att.key.weight"));
    CHECK_THAT(output_of(program, {"inspect", packed, "--metadata"}),
               Contains("press.format_version") && !Contains("blocks.0.att.key.weight"));
  }
  CHECK_THAT(output_of("rwkv-press", {"inspect", input}), Contains("v7, 4 layers x 128"));
}
