// rwkv-press as users and other tools call it: commands, exit codes, and the files that remain.
#include <nlohmann/json.hpp>

#include <filesystem>

#include "tests/cli/checks.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Arguments = std::vector<std::string>;

// A small checkpoint under a folder's name m.pth.
std::string synth(const ScratchFolder& scratch, const std::string& name = "m.pth") {
  const std::string path = scratch.file(name);
  const RunResult made =
      run("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "2", "--n-embd", "128",
                         "--n-vocab", "256", "--seed", "1", "--quiet", "-o", path});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  return path;
}

}  // namespace

TEST_CASE("rwkv-press converts, inspects, plans and exports", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string packed = scratch.file("m.gguf");
  const RunResult plan = run("rwkv-press", {"plan", input, "--preset", "int8", "--json"});
  REQUIRE(plan.exit_code == 0);
  const auto planned = nlohmann::json::parse(plan.out);
  REQUIRE(run("rwkv-press", {"convert", input, "-o", packed, "--preset", "int8", "--vocab", "bytes",
                             "--name", "small", "--quiet"})
              .exit_code == 0);
  const RunResult inspected = run("rwkv-press", {"inspect", packed, "--json", "--verify"});
  REQUIRE(inspected.exit_code == 0);
  const auto report = nlohmann::json::parse(inspected.out);
  CHECK(report["metadata"]["general.name"] == "small");
  CHECK(report["model"]["version"] == "v5.2");
  CHECK(report["tensor_bytes"] == planned["total_bytes"]);
  const std::string back = scratch.file("back.safetensors");
  REQUIRE(run("rwkv-press", {"export", packed, "-o", back, "--quiet"}).exit_code == 0);
  CHECK(run("rwkv-press", {"inspect", back, "--verify"}).exit_code == 0);
  for (const char* command : {"convert", "plan", "inspect", "synth", "export"}) {
    const RunResult help = run("rwkv-press", {command, "--help"});
    CHECK(help.exit_code == 0);
    CHECK_THAT(help.out, Contains("Usage"));
  }
  CHECK_THAT(run("rwkv-press", {"--version"}).out, Contains("rwkv-press "));
}

TEST_CASE("Two conversions give the same bytes with any number of threads", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const auto convert = [&](const char* threads, const std::string& name) {
    ::setenv("RWKV_PRESS_THREADS", threads, 1);
    REQUIRE(run("rwkv-press",
                {"convert", input, "-o", scratch.file(name), "--preset", "int8", "--quiet"})
                .exit_code == 0);
    ::unsetenv("RWKV_PRESS_THREADS");
    return read_bytes(scratch.file(name));
  };
  CHECK(convert("1", "a.gguf") == convert("2", "b.gguf"));
}

TEST_CASE("rwkv-press names usage errors and exits with 2", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string out = scratch.file("out.gguf");
  write_text(scratch.file("r.yaml"), "stages:\n  - quantize: {codek: f16}\n");
  write_text(scratch.file("bad.yaml"), "stages: [\n");
  write_text(scratch.file("there.gguf"), "precious");
  const auto convert = [&](Arguments more) {
    Arguments all = {"convert", input, "-o", out};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  check_refused("rwkv-press", {"convrt"}, 2, "convert");
  check_refused("rwkv-press", {}, 2, "command");
  check_refused("rwkv-press", convert({"--recipe", scratch.file("r.yaml")}), 2, "'codec'");
  check_refused("rwkv-press", convert({"--recipe", scratch.file("bad.yaml")}), 2, "YAML");
  check_refused("rwkv-press", convert({"--preset", "int9"}), 2, "int8");
  check_refused("rwkv-press", convert({"--set", "quantize.codec"}), 2, "stage.key=value");
  check_refused("rwkv-press", convert({"--set", "quantize.codex=f16"}), 2, "codec");
  check_refused("rwkv-press", convert({"--bogus"}), 2, "bogus");
  check_refused("rwkv-press", convert({"extra", "more"}), 2, "extra");
  check_refused("rwkv-press", {"convert", input}, 2, "output");
  check_refused("rwkv-press", {"convert", input, "-o", scratch.file("there.gguf")}, 2, "--force");
  check_refused("rwkv-press", {"convert", input, "-o", scratch.path().string()}, 2, "directory");
  check_refused("rwkv-press", {"export", input, "-o", scratch.file("x.bin")}, 2, ".safetensors");
  CHECK(read_bytes(scratch.file("there.gguf")).size() == 8);
  CHECK(scratch.entries() == Arguments{"bad.yaml", "m.pth", "r.yaml", "there.gguf"});
}

TEST_CASE("rwkv-press refuses bad input with 3 and leaves nothing", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string out = scratch.file("out.gguf");
  write_text(scratch.file("empty"), "");
  write_text(scratch.file("text"), "This is not a checkpoint at all.\n");
  write_text(scratch.file("vocab.txt"), "1 'a' 1\n300 'b' 1\n");
  write_text(scratch.file("nonsense.txt"), "what is this\n");
  auto bytes = read_bytes(input);
  write_bytes(scratch.file("cut.pth"), std::span(bytes).first(bytes.size() / 2));
  bytes[bytes.size() / 2] ^= std::byte{1};
  write_bytes(scratch.file("flipped.pth"), bytes);
  const auto before = scratch.entries();
  for (const char* name : {"missing", "empty", "text", "cut.pth", "flipped.pth"}) {
    check_refused("rwkv-press", {"convert", scratch.file(name), "-o", out, "--quiet"}, 3, name);
  }
  check_refused("rwkv-press", {"convert", scratch.path().string(), "-o", out}, 3,
                "holds 3 checkpoints");
  check_refused("rwkv-press", {"convert", input, "-o", out, "--vocab", scratch.file("vocab.txt")},
                3, "another model");
  check_refused("rwkv-press",
                {"convert", input, "-o", out, "--vocab", scratch.file("nonsense.txt")}, 3, "line");
  CHECK(scratch.entries() == before);
}

TEST_CASE("Folders and foreign files are told on stderr, and unknown ones are listed", "[cli]") {
  namespace fs = std::filesystem;
  const ScratchFolder scratch;
  const std::string folder = scratch.file("model");
  fs::create_directory(folder);
  synth(scratch, "model/a.pth");
  const RunResult converted = run("rwkv-press", {"convert", folder, "-o", scratch.file("m.gguf"),
                                                 "--group-norm-eps", "1e-5", "--quiet"});
  CHECK(converted.exit_code == 0);
  const RunResult planned = run("rwkv-press", {"plan", folder});
  CHECK(planned.exit_code == 0);
  CHECK_THAT(planned.err, Contains("note: " + folder + ": a folder: took a.pth\n"));
  const RunResult inspected = run("rwkv-press", {"inspect", scratch.file("m.gguf"), "--json"});
  const auto report = nlohmann::json::parse(inspected.out);
  CHECK(report["model"]["group_norm_eps"].get<float>() == 1e-5f);
  CHECK(report["metadata"]["general.name"] == "model");
  check_refused("rwkv-press", {"plan", folder, "--group-norm-eps", "0"}, 2, "--group-norm-eps");
  // Statistics are not a model; what is in them is shown all the same.
  write_text(scratch.file("text.txt"), std::string(4000, 'x'));
  REQUIRE(run("rwkv-press", {"calibrate", folder, "-o", scratch.file("s.safetensors"),
                             "--calibration", scratch.file("text.txt"), "--vocab", "bytes",
                             "--samples", "2", "--length", "16", "--quiet"})
              .exit_code == 0);
  const RunResult unknown = run("rwkv-press", {"inspect", scratch.file("s.safetensors")});
  CHECK(unknown.exit_code == 3);
  CHECK_THAT(unknown.out, Contains("source.xxh64"));
  CHECK_THAT(unknown.err, Contains("holds statistics of rwkv-press calibrate; expected a model"));
}

TEST_CASE("An archive or a checkpoint in place of a text is refused by name", "[cli]") {
  const ScratchFolder scratch;
  TinyModelOptions tiny;
  tiny.vocabulary = TinyVocabulary::Bytes;
  tiny.n_vocab = 256;
  const std::string model = write_tiny_model(scratch, tiny, "m.gguf");
  const std::string output = scratch.file("out.pth");
  write_text(scratch.file("text.gz"), "\x1f\x8b\x08 and so on");
  write_text(scratch.file("lfs.txt"), "version https://git-lfs.github.com/spec/v1\n");
  write_text(scratch.file("page.txt"), "<!doctype html> may be what somebody trains on");
  write_text(scratch.file("train.yaml"),
             "model: {version: v5.2, n_layer: 1, n_embd: 64, n_vocab: 256}\ntrain: {steps: 1}\n");
  const std::pair<std::string, const char*> files[] = {
      {scratch.file("text.gz"), "gunzip"},
      {scratch.file("lfs.txt"), "git lfs pull"},
      {model, "name the file of the text itself"},
  };
  for (const auto& [text, advice] : files) {
    const std::pair<const char*, std::vector<std::string>> commands[] = {
        {"rwkv-edge", {"perplexity", model, "--text", text}},
        {"rwkv-edge", {"generate", model, "-f", text, "-n", "1"}},
        {"rwkv-press", {"eval", model, "--text", text}},
        {"rwkv-press", {"calibrate", model, "--calibration", text, "-o", output}},
        {"rwkv-press",
         {"train", "--config", scratch.file("train.yaml"), "--vocab", "bytes", "--data", text, "-o",
          output}},
    };
    for (const auto& [program, arguments] : commands) {
      INFO(program << " " << arguments.front() << " " << text);
      check_refused(program, arguments, 3, "expected a text, found ");
      check_refused(program, arguments, 3, advice);
      CHECK_FALSE(std::filesystem::exists(output));
    }
  }
  output_of("rwkv-edge", {"perplexity", model, "--text", scratch.file("page.txt")});
}

TEST_CASE("A full disk ends a conversion with 1 and nothing half-written", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  check_refused("rwkv-press", {"convert", input, "-o", scratch.file("out.gguf"), "--quiet"}, 1,
                "out.gguf", 100000);
  check_refused("rwkv-press", {"export", input, "-o", scratch.file("out.pth"), "--quiet"}, 1,
                "out.pth", 100000);
  check_refused("rwkv-press",
                {"convert", input, "-o", scratch.file("no/such/folder/out.gguf"), "--quiet"}, 1,
                "cannot create");
  CHECK(scratch.entries() == Arguments{"m.pth"});
}

TEST_CASE("What was rounded once is not rounded again in silence", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string packed = scratch.file("m.gguf");
  REQUIRE(run("rwkv-press", {"convert", input, "-o", packed, "--preset", "int8", "--quiet"})
              .exit_code == 0);
  // What stays in its codec is copied.
  CHECK(run("rwkv-press",
            {"convert", packed, "-o", scratch.file("a.gguf"), "--preset", "int8", "--quiet"})
            .exit_code == 0);
  check_refused("rwkv-press", {"convert", packed, "-o", scratch.file("b.gguf")}, 2,
                "--allow-requantize");
  CHECK(run("rwkv-press",
            {"convert", packed, "-o", scratch.file("b.gguf"), "--allow-requantize", "--quiet"})
            .exit_code == 0);
}

TEST_CASE("A vocabulary that hardly fits is not taken by itself, and named with a warning",
          "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);  // 256 rows
  const auto write_tokens = [&](const std::string& name, int n) {
    std::string lines;
    for (int id = 1; id < n; ++id) {
      const std::string token = fmt::format("w{}", id);
      lines += fmt::format("{} '{}' {}\n", id, token, token.size());
    }
    write_text(scratch.file(name), lines);
  };
  const auto convert = [&](const Arguments& more) {
    Arguments all = {"convert", input, "-o", scratch.file("m.gguf"), "--force"};
    all.insert(all.end(), more.begin(), more.end());
    return run("rwkv-press", all);
  };
  const auto has_vocabulary = [&] {
    const auto report = nlohmann::json::parse(
        output_of("rwkv-press", {"inspect", scratch.file("m.gguf"), "--json"}));
    return report["metadata"].contains("tokenizer.ggml.model");
  };
  // 231 tokens leave 25 rows without one: less than a tenth.
  write_tokens("rwkv_vocab_v20230424.txt", 231);
  RunResult result = convert({});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("found next to the input"));
  CHECK(has_vocabulary());
  write_tokens("rwkv_vocab_v20230424.txt", 230);
  result = convert({});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("26 of the model's 256 rows would have no token"));
  CHECK_FALSE(has_vocabulary());
  result = convert({"--vocab", scratch.file("rwkv_vocab_v20230424.txt"), "--quiet"});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("warning: vocabulary") && Contains("another model"));
  CHECK(has_vocabulary());
  write_tokens("rwkv_vocab_v20230424.txt", 300);
  check_refused("rwkv-press",
                {"convert", input, "-o", scratch.file("m.gguf"), "--force", "--vocab",
                 scratch.file("rwkv_vocab_v20230424.txt")},
                3, "another model");
  result = convert({});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("another model"));
  CHECK_FALSE(has_vocabulary());
}

TEST_CASE("Rounded values need permission in every command that changes them", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch);
  const std::string packed = scratch.file("m.gguf");
  REQUIRE(run("rwkv-press",
              {"convert", input, "-o", packed, "--preset", "int8", "--vocab", "bytes", "--quiet"})
              .exit_code == 0);
  write_text(scratch.file("t.txt"), std::string(2000, 'a'));
  write_text(scratch.file("train.yaml"), "train: {steps: 1, length: 8, batch: 1}\n");
  write_text(scratch.file("sweep.yaml"), "preset: int8\n");
  check_refused("rwkv-press", {"plan", packed, "--preset", "fp16"}, 2, "--allow-requantize");
  check_refused("rwkv-press",
                {"plan", packed, "--fit", "1MB", "--calibration", scratch.file("t.txt"), "-o",
                 scratch.file("p.yaml")},
                2, "--allow-requantize");
  check_refused("rwkv-press",
                {"train", packed, "--config", scratch.file("train.yaml"), "--data",
                 scratch.file("t.txt"), "-o", scratch.file("t.pth")},
                2, "--allow-requantize");
  check_refused("rwkv-press",
                {"sweep", packed, "--config", scratch.file("sweep.yaml"), "-o", scratch.file("s"),
                 "--text", scratch.file("t.txt")},
                2, "--allow-requantize");
  CHECK(run("rwkv-press", {"plan", packed, "--preset", "fp16", "--allow-requantize"}).exit_code ==
        0);
}
