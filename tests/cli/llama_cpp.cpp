// export --to llama.cpp and imatrix files from outside: what is said, what is refused.
#include "tests/cli/checks.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Arguments = std::vector<std::string>;
using Catch::Contains;

namespace {

std::string synth(const ScratchFolder& scratch, const std::string& arch) {
  std::string path = scratch.file(arch + ".pth");
  const RunResult made =
      run("rwkv-press", {"synth", "--arch", arch, "--n-layer", "2", "--n-embd", "64", "--n-vocab",
                         "256", "--seed", "1", "--quiet", "-o", path});
  INFO(made.err);
  REQUIRE(made.exit_code == 0);
  return path;
}

std::string write_sums(const ScratchFolder& scratch) {
  std::string text;
  for (int i = 0; i < 200; ++i) {
    text += std::to_string(i) + " and " + std::to_string(i * i) + "; ";
  }
  const std::string path = scratch.file("text.txt");
  write_text(path, text);
  return path;
}

}  // namespace

TEST_CASE("A packed file is exported to llama.cpp, and what is left out is said", "[cli]") {
  const ScratchFolder scratch;
  TinyModelOptions model;
  model.sign_predictor = true;
  model.n_cluster = 4;
  const std::string packed = write_tiny_model(scratch, model);
  const std::string output = scratch.file("out.gguf");
  const RunResult result =
      run("rwkv-press", {"export", packed, "--to", "llama.cpp", "-o", output, "--name", "Small"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("note: predictors of active neurons are left out"));
  CHECK_THAT(result.err, Contains("note: the clusters of the head are left out"));
  CHECK_THAT(result.out, Contains("f16 for llama.cpp"));
  const RunResult inspected = run("rwkv-press", {"inspect", output, "--verify"});
  CHECK(inspected.exit_code == 0);
  CHECK_THAT(inspected.out, Contains("v7, 2 layers x 72"));
}

TEST_CASE("Exports to llama.cpp are refused in one line", "[cli]") {
  const ScratchFolder scratch;
  const std::string v5 = synth(scratch, "v5.2");
  const std::string v7 = synth(scratch, "v7");
  const std::string text = write_sums(scratch);
  const auto refused = [&](const std::string& input, Arguments more, int code, const char* part) {
    Arguments all = {"export", input, "--to", "llama.cpp", "-o", scratch.file("out.gguf")};
    all.insert(all.end(), more.begin(), more.end());
    check_refused("rwkv-press", all, code, part);
  };
  refused(v5, {"--quiet"}, 3, "llama.cpp runs only RWKV v6 and v7");
  refused(v7, {"--quiet", "--type", "q4_1"}, 2, "expected f32|f16|q8_0|q6_k|q4_k|iq4_nl|q4_0");
  refused(v7, {"--quiet", "--calibration", text, "--imatrix", text}, 2, "found 2");
  refused(v7, {"--quiet", "--imatrix", text}, 3, "another program");
  check_refused("rwkv-press", {"export", v7, "--to", "ollama", "-o", scratch.file("out.gguf")}, 2,
                "expected llama.cpp");
  check_refused("rwkv-press", {"export", v7, "--type", "q4_0", "-o", scratch.file("o.pth")}, 2,
                "--to llama.cpp");
  check_refused("rwkv-press", {"export", v7, "-o", scratch.file("out.gguf")}, 2, "--to llama.cpp");
  const std::string packed = scratch.file("m.gguf");
  REQUIRE(run("rwkv-press", {"convert", v7, "-o", packed, "--preset", "int8", "--vocab", "bytes",
                             "--set", "quantize.min_numbers=0", "--quiet"})
              .exit_code == 0);
  refused(packed, {"--quiet", "--type", "q4_0"}, 2, "--allow-requantize");
  CHECK(scratch.entries() ==
        Arguments{"m.gguf", "m.gguf.report.json", "text.txt", "v5.2.pth", "v7.pth"});
}

TEST_CASE("calibrate writes an imatrix, and export and convert read it", "[cli]") {
  const ScratchFolder scratch;
  const std::string v7 = synth(scratch, "v7");
  const std::string text = write_sums(scratch);
  const std::string imatrix = scratch.file(GENERATE("i.gguf", "i.dat"));
  const auto fine = [](const Arguments& arguments) {
    const RunResult result = run("rwkv-press", arguments);
    INFO(result.err);
    REQUIRE(result.exit_code == 0);
  };
  fine({"calibrate", v7, "--imatrix", imatrix, "--vocab", "bytes", "--calibration", text,
        "--samples", "4", "--length", "32", "--quiet"});
  const auto bytes = [&](const char* option) {
    const std::string output = scratch.file("q.gguf");
    fine({"export", v7, "--to", "llama.cpp", "--type", "q4_0", option, imatrix, "--vocab", "bytes",
          "--force", "--quiet", "-o", output});
    return read_bytes(output);
  };
  CHECK(bytes("--imatrix") == bytes("--stats"));
  fine({"convert", v7, "--preset", "lut4", "--imatrix", imatrix, "--vocab", "bytes", "--quiet",
        "-o", scratch.file("lut4.gguf")});
  // Of a model with another number of blocks, and where text is needed.
  const std::string other = scratch.file("other.pth");
  fine({"synth", "--arch", "v7", "--n-layer", "3", "--n-embd", "64", "--n-vocab", "256", "--quiet",
        "-o", other});
  check_refused("rwkv-press",
                {"export", other, "--to", "llama.cpp", "--type", "q4_0", "--imatrix", imatrix,
                 "--vocab", "bytes", "--quiet", "-o", scratch.file("x.gguf")},
                2, "another model");
  check_refused("rwkv-press",
                {"convert", v7, "--preset", "rwkv-lite-fp16", "--imatrix", imatrix, "--vocab",
                 "bytes", "--quiet", "-o", scratch.file("x.gguf")},
                2, "mean squares");
  check_refused("rwkv-press",
                {"calibrate", v7, "--imatrix", v7, "--force", "--vocab", "bytes", "--calibration",
                 text, "--quiet"},
                2, "being read");
}
