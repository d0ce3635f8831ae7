// Tuned states, saved states and adapters, as users of both programs meet them.
#include <filesystem>

#include "formats/container/safetensors_reader.h"
#include "formats/container/safetensors_writer.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Arguments = std::vector<std::string>;

std::string output_of(const std::string& program, const Arguments& arguments) {
  const RunResult result = run(program, arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

void check_refused(const std::string& program, const Arguments& arguments, int exit_code,
                   const Arguments& says) {
  const RunResult result = run(program, arguments);
  INFO(result.err);
  CHECK(result.exit_code == exit_code);
  for (const std::string& part : says) {
    CHECK_THAT(result.err, Contains(part));
  }
}

// A checkpoint of v7 with two blocks, and its packed file.
struct Models {
  explicit Models(const ScratchFolder& scratch)
      : checkpoint(scratch.file("m.pth")), packed(scratch.file("m.gguf")) {
    output_of("rwkv-press", {"synth", "--arch", "v7", "--n-layer", "2", "--n-embd", "128",
                             "--n-vocab", "256", "--quiet", "-o", checkpoint});
    output_of("rwkv-press", {"convert", checkpoint, "-o", packed, "--preset", "fp32", "--vocab",
                             "bytes", "--quiet"});
  }
  std::string checkpoint, packed;
};

std::string write_tensors(const std::string& path, const std::vector<TensorInfo>& infos) {
  REQUIRE_OK(write_safetensors(path, OutputFile::Existing::Replace, infos,
                               [&](size_t index, std::vector<std::byte>& out) {
                                 std::vector<float> values(infos[index].n_elements());
                                 for (size_t i = 0; i < values.size(); ++i) {
                                   values[i] = noise(index, i);
                                 }
                                 const auto bytes = std::as_bytes(std::span(values));
                                 out.assign(bytes.begin(), bytes.end());
                                 return Status();
                               }));
  return path;
}

std::string write_state(const ScratchFolder& scratch) {
  return write_tensors(scratch.file("state.safetensors"),
                       {{"blocks.0.att.time_state", DType::F32, {2, 64, 64}},
                        {"blocks.1.att.time_state", DType::F32, {2, 64, 64}}});
}

}  // namespace

TEST_CASE("A text goes on with --state where --save-state left it", "[cli]") {
  const ScratchFolder scratch;
  const Models models(scratch);
  const std::string state = scratch.file("s.state");
  const Arguments base = {"generate", models.packed, "--ids", "--temp", "0"};
  const auto with = [&](Arguments more) {
    Arguments all = base;
    all.insert(all.end(), more.begin(), more.end());
    std::string out = output_of("rwkv-edge", all);
    return out.substr(0, out.find('\n'));
  };
  const std::string whole = with({"-p", "97 98 99", "-n", "20"});
  const std::string first = with({"-p", "97 98 99", "-n", "12", "--save-state", state});
  const std::string rest = with({"--state", state, "-n", "8"});
  CHECK(first + " " + rest == whole);
  CHECK(with({"-p", "97", "-n", "8"}) != with({"--state", state, "-p", "97", "-n", "8"}));
  check_refused("rwkv-edge", {"generate", models.packed, "-n", "3"}, 2, {"--prompt"});
  check_refused("rwkv-edge", {"generate", models.packed, "-p", "a", "--save-state", models.packed},
                2, {"the output is", "which is being read"});
  check_refused("rwkv-edge",
                {"logits", models.packed, "--tokens", state, "-o", models.packed, "--force"}, 2,
                {"which is being read"});
  // A state may be carried on in its file.
  CHECK(with({"--state", state, "-n", "8", "--save-state", state}) == rest);
  check_refused("rwkv-edge",
                {"generate", models.packed, "-p", "a", "--state", scratch.file("none.state")}, 3,
                {"none.state"});
}

TEST_CASE("A tuned state alone and merged give the same logits", "[cli]") {
  const ScratchFolder scratch;
  const Models models(scratch);
  const std::string state = write_state(scratch);
  const std::string tokens = scratch.file("t.i32");
  const std::vector<int32_t> ids = {1, 7, 200, 31, 99};
  write_bytes(tokens, std::as_bytes(std::span(ids)));
  const auto logits = [&](Arguments more) {
    const std::string path = scratch.file("l.f32");
    Arguments all = {"logits", "--tokens", tokens, "-o", path, "--force"};
    all.insert(all.end(), more.begin(), more.end());
    output_of("rwkv-edge", all);
    return read_bytes(path);
  };
  const auto alone = logits({models.packed, "--state", state});
  CHECK(alone != logits({models.packed}));
  const std::string merged = scratch.file("merged.gguf");
  output_of("rwkv-press", {"convert", models.checkpoint, "--merge", state, "-o", merged, "--preset",
                           "fp32", "--quiet"});
  for (const char* memory : {"full", "sparse", "windowed", "layerwise"}) {
    CHECK(logits({merged, "--memory", memory}) == alone);
  }
  // What a trainer saves is a pickle; it is written anew for the runtime.
  const std::string pickle = scratch.file("state.pth");
  output_of("rwkv-press", {"export", state, "-o", pickle, "--quiet"});
  check_refused("rwkv-edge", {"generate", models.packed, "-p", "a", "--state", pickle}, 3,
                {"state.pth", "rwkv-press export"});
  check_refused("rwkv-press", {"convert", pickle, "-o", scratch.file("x.gguf")}, 3,
                {"state.pth", "tuned state", "--merge"});
  const std::string again = scratch.file("again.safetensors");
  output_of("rwkv-press", {"export", pickle, "-o", again, "--quiet"});
  CHECK(logits({models.packed, "--state", again}) == alone);
  // It comes out of the packed file, too.
  const std::string out = scratch.file("out.pth");
  output_of("rwkv-press", {"export", merged, "-o", out, "--quiet"});
  CHECK_THAT(output_of("rwkv-press", {"inspect", out, "--tensors"}), Contains("time_state"));
}

TEST_CASE("State tuning moves the state alone, which goes into the model or beside it", "[cli]") {
  const ScratchFolder scratch;
  const Models models(scratch);
  std::string text;
  for (int i = 0; i < 400; ++i) {
    text += "to be, or not to be? ";
  }
  write_text(scratch.file("text.txt"), text);
  write_text(scratch.file("state.yaml"),
             "train: {parameters: [state], steps: 12, batch: 2, length: 32, lr: 0.1, warmup: 1}\n");
  const auto tune = [&](const std::string& output, Arguments more) {
    Arguments all = {"train",    models.checkpoint,
                     "--config", scratch.file("state.yaml"),
                     "--data",   scratch.file("text.txt"),
                     "--vocab",  "bytes",
                     "--quiet",  "-o",
                     output};
    all.insert(all.end(), more.begin(), more.end());
    output_of("rwkv-press", all);
  };
  const std::string state = scratch.file("s.safetensors"), whole = scratch.file("tuned.pth");
  tune(state, {"--state-only"});
  tune(whole, {});  // in bf16, as the model
  const std::string packed = scratch.file("tuned.gguf");
  output_of("rwkv-press",
            {"convert", whole, "-o", packed, "--preset", "fp32", "--vocab", "bytes", "--quiet"});
  const auto bits = [&](Arguments more) {
    Arguments all = {"perplexity", "--text",       scratch.file("text.txt"),
                     "--json",     "--max-tokens", "200"};
    all.insert(all.end(), more.begin(), more.end());
    const std::string out = output_of("rwkv-edge", all);
    return std::stod(out.substr(out.find("\"bits_per_byte\": ") + 17));
  };
  const double before = bits({models.packed});
  const double alone = bits({models.packed, "--state", state});
  CHECK(alone < before - 0.05);
  CHECK(bits({packed}) == alone);

  // All else is as it was.
  const std::string stripped = scratch.file("stripped.safetensors"),
                    original = scratch.file("original.safetensors");
  output_of("rwkv-press", {"export", models.checkpoint, "--quiet", "-o", original});
  output_of("rwkv-press", {"export", whole, "--quiet", "-o", stripped});
  const auto base = open_safetensors(original);
  const auto tuned = open_safetensors(stripped);
  REQUIRE_OK(base.status());
  REQUIRE_OK(tuned.status());
  size_t n_same = 0;
  for (size_t i = 0; i < base.value()->tensors().size(); ++i) {
    for (size_t j = 0; j < tuned.value()->tensors().size(); ++j) {
      if (base.value()->tensors()[i].name == tuned.value()->tensors()[j].name) {
        std::vector<std::byte> ours, theirs;
        REQUIRE_OK(base.value()->read(i, ours));
        REQUIRE_OK(tuned.value()->read(j, theirs));
        CHECK((ours == theirs));
        ++n_same;
      }
    }
  }
  CHECK(n_same == base.value()->tensors().size());
  CHECK(tuned.value()->tensors().size() == n_same + 2);

  check_refused("rwkv-press",
                {"train", models.checkpoint, "--config", scratch.file("state.yaml"), "--set",
                 "train.parameters=[all]", "--state-only", "--data", scratch.file("text.txt"),
                 "--vocab", "bytes", "-o", whole, "--force"},
                2, {"--state-only", "train.parameters"});
  const std::string old = scratch.file("v4.pth");
  output_of("rwkv-press", {"synth", "--arch", "v4", "--n-layer", "1", "--n-embd", "64", "--n-vocab",
                           "256", "--quiet", "-o", old});
  check_refused("rwkv-press",
                {"train", old, "--config", scratch.file("state.yaml"), "--data",
                 scratch.file("text.txt"), "--vocab", "bytes", "-o", whole, "--force"},
                2, {"this model is v4"});
}

TEST_CASE("Adapters are merged by convert and export", "[cli]") {
  const ScratchFolder scratch;
  const Models models(scratch);
  const std::string lora = write_tensors(scratch.file("lora.safetensors"),
                                         {{"blocks.0.att.key.lora_A", DType::F32, {4, 128}},
                                          {"blocks.0.att.key.lora_B", DType::F32, {128, 4}}});
  const std::string packed = scratch.file("merged.gguf");
  const RunResult merged =
      run("rwkv-press", {"convert", models.checkpoint, "--merge", lora, "--alpha", "8", "-o",
                         packed, "--preset", "fp32", "--vocab", "bytes"});
  CHECK(merged.exit_code == 0);
  CHECK_THAT(merged.err, Contains("1 matrices changed (LoRA, rank 4)") && Contains("alpha 8"));
  const std::string model = scratch.file("merged.pth");
  output_of("rwkv-press",
            {"export", models.checkpoint, "--merge", lora, "--alpha", "8", "-o", model, "--quiet"});
  const std::string other = scratch.file("other.gguf");
  output_of("rwkv-press", {"convert", model, "-o", other, "--preset", "fp32", "--quiet"});
  const auto text = [&](const std::string& path) {
    return output_of("rwkv-edge",
                     {"generate", path, "--ids", "-p", "5 6 7", "-n", "30", "--temp", "0"});
  };
  CHECK(text(packed) == text(other));

  const std::string none = scratch.file("none.gguf");
  check_refused("rwkv-press", {"convert", models.checkpoint, "--merge", lora, "-o", none}, 2,
                {"lora.safetensors", "rank 4", "--alpha"});
  check_refused("rwkv-press", {"convert", models.checkpoint, "--alpha", "8", "-o", none}, 2,
                {"--alpha"});
  check_refused("rwkv-press", {"convert", lora, "-o", none}, 3, {"adapter (LoRA)", "--merge"});
  output_of("rwkv-press", {"convert", models.checkpoint, "-o", scratch.file("i8.gguf"), "--preset",
                           "int8", "--quiet"});
  check_refused("rwkv-press",
                {"convert", scratch.file("i8.gguf"), "--merge", lora, "--alpha", "8", "-o", none},
                2, {"i8.gguf", "rounded values"});
  CHECK_FALSE(std::filesystem::exists(none));
}
