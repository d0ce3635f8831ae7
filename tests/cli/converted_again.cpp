// What a file carries besides its weights when it is converted again: the chat template, the tuned
// state, the vocabulary, the epsilon of its norm.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/container/gguf_reader.h"
#include "formats/container/gguf_writer.h"
#include "formats/container/safetensors_writer.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Arguments = std::vector<std::string>;
using Json = nlohmann::json;

RunResult require_fine(const Arguments& arguments) {
  const RunResult result = run("rwkv-press", arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

std::string synth(const ScratchFolder& scratch, const std::string& arch,
                  const Arguments& more = {}) {
  const std::string path = scratch.file(arch + ".pth");
  Arguments arguments = {"synth", "--arch",    arch,  "--n-layer", "2",  "--n-embd",
                         "128",   "--n-vocab", "256", "--quiet",   "-o", path};
  arguments.insert(arguments.end(), more.begin(), more.end());
  require_fine(arguments);
  return path;
}

std::string metadata_of(const std::string& packed, const char* key) {
  const Json report = Json::parse(require_fine({"inspect", packed, "--json"}).out);
  return report["metadata"].value(key, "none");
}

std::vector<std::byte> logits_of(const ScratchFolder& scratch, const std::string& packed) {
  const std::vector<int32_t> ids = {1, 7, 200, 31, 99};
  write_bytes(scratch.file("t.i32"), std::as_bytes(std::span(ids)));
  const RunResult result = run("rwkv-edge", {"logits", packed, "--tokens", scratch.file("t.i32"),
                                             "-o", scratch.file("l.f32"), "--force"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return read_bytes(scratch.file("l.f32"));
}

// `from` with another text in place of the first `old`, which has as many bytes.
void replace_in_file(const std::string& from, const std::string& to, const std::string& old,
                     const std::string& text) {
  std::vector<std::byte> bytes = read_bytes(from);
  std::string content(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t at = content.find(old);
  REQUIRE(at != std::string::npos);
  REQUIRE(old.size() == text.size());
  content.replace(at, old.size(), text);
  write_text(to, content);
}

}  // namespace

TEST_CASE("A packed file keeps its chat template when it is converted again", "[cli]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch, "v7");
  const std::string first = scratch.file("first.gguf");
  const std::string second = scratch.file("second.gguf");
  const char* key = "press.chat_template";
  require_fine({"convert", input, "-o", first, "--vocab", "bytes", "--chat-template", "g1-think",
                "--quiet"});
  CHECK(metadata_of(first, key) == "g1-think");
  require_fine({"convert", first, "-o", second, "--preset", "int8", "--quiet"});
  CHECK(metadata_of(second, key) == "g1-think");
  // Another name, another vocabulary: what was stored stays; only the option changes it.
  require_fine({"convert", first, "-o", second, "--name", "rwkv7-world", "--vocab", "bytes",
                "--force", "--quiet"});
  CHECK(metadata_of(second, key) == "g1-think");
  require_fine({"convert", first, "-o", second, "--chat-template", "none", "--force", "--quiet"});
  CHECK(metadata_of(second, key) == "none");
}

TEST_CASE("A packed file keeps its tuned state when it is converted again", "[cli]") {
  const ScratchFolder scratch;
  for (const char* arch : {"v5.2", "v6", "v7"}) {
    INFO(arch);
    const std::string input = synth(scratch, arch);
    const std::string state = scratch.file("state.safetensors");
    const std::vector<TensorInfo> infos = {{"blocks.0.att.time_state", DType::F32, {2, 64, 64}},
                                           {"blocks.1.att.time_state", DType::F32, {2, 64, 64}}};
    REQUIRE_OK(write_safetensors(state, OutputFile::Existing::Replace, infos,
                                 [&](size_t index, std::vector<std::byte>& out) {
                                   std::vector<float> values(infos[index].n_elements());
                                   for (size_t i = 0; i < values.size(); ++i) {
                                     values[i] = noise(index, i);
                                   }
                                   const auto bytes = std::as_bytes(std::span(values));
                                   out.assign(bytes.begin(), bytes.end());
                                   return Status();
                                 }));
    const auto convert = [&](const std::string& from, const char* name, const Arguments& more) {
      const std::string packed = scratch.file(std::string(arch) + name);
      Arguments all = {"convert", from,      "-o",      packed,    "--preset",
                       "fp32",    "--quiet", "--force", "--vocab", "bytes"};
      all.insert(all.end(), more.begin(), more.end());
      require_fine(all);
      return packed;
    };
    const std::string plain = convert(input, "plain.gguf", {});
    const std::string tuned = convert(input, "tuned.gguf", {"--merge", state});
    const std::string again = convert(tuned, "again.gguf", {});
    CHECK(logits_of(scratch, tuned) != logits_of(scratch, plain));
    CHECK(logits_of(scratch, again) == logits_of(scratch, tuned));
    // As codes too, where nothing is decoded in between.
    const std::string codes = scratch.file(std::string(arch) + "i8.gguf");
    const std::string copy = scratch.file(std::string(arch) + "copy.gguf");
    require_fine({"convert", tuned, "-o", codes, "--preset", "int8", "--quiet"});
    require_fine({"convert", codes, "-o", copy, "--preset", "int8", "--quiet"});
    CHECK(logits_of(scratch, copy) == logits_of(scratch, codes));
  }
}

TEST_CASE("A file whose own vocabulary cannot be used loads with --vocab", "[cli]") {
  const ScratchFolder scratch;
  const std::string good = scratch.file("good.gguf");
  const std::string bad = scratch.file("bad.gguf");
  const std::string again = scratch.file("again.gguf");
  require_fine({"convert", synth(scratch, "v7"), "-o", good, "--vocab", "bytes", "--quiet"});
  // Its metadata say "byte"; a kind that nobody knows has as many letters.
  replace_in_file(good, bad, std::string("\x04\0\0\0\0\0\0\0byte", 12),
                  std::string("\x04\0\0\0\0\0\0\0bite", 12));
  const RunResult refused = run("rwkv-press", {"convert", bad, "-o", again});
  CHECK(refused.exit_code == 3);
  CHECK_THAT(refused.err, Contains("bad.gguf: its vocabulary") && Contains("found 'bite'") &&
                              Contains("--vocab"));
  CHECK_FALSE(std::filesystem::exists(again));
  const RunResult taken = require_fine({"convert", bad, "-o", again, "--vocab", "bytes"});
  CHECK_THAT(taken.err,
             Contains("in place of the input's own, which cannot be used") && Contains("'bite'"));
  CHECK(logits_of(scratch, again) == logits_of(scratch, good));
  // What needs no vocabulary does not ask for one.
  require_fine({"export", bad, "-o", scratch.file("out.pth"), "--quiet"});
}

TEST_CASE("eval and sweep take --group-norm-eps as convert does", "[cli][evaluate]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch, "v5.2");
  const std::string text = scratch.file("t.txt");
  write_text(text, std::string("What was said once is said again, and once more. ") + "The end.");
  const auto loss = [&](const Arguments& more) {
    Arguments all = {"eval", "--text", text, "--json", "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    return Json::parse(require_fine(all).out)[0]["texts"][0]["bits_per_byte"].get<double>();
  };
  const std::string packed = scratch.file("p.gguf");
  require_fine({"convert", input, "-o", packed, "--preset", "fp32", "--vocab", "bytes",
                "--group-norm-eps", "0.3", "--quiet"});
  const double expected = loss({packed});
  CHECK(loss({input, "--vocab", "bytes", "--group-norm-eps", "0.3"}) == expected);
  CHECK(loss({input, "--vocab", "bytes"}) != expected);
  const RunResult refused =
      run("rwkv-press", {"eval", packed, "--text", text, "--group-norm-eps", "0.3"});
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("--group-norm-eps"));

  write_text(scratch.file("sweep.yaml"),
             "stages: [{quantize: {codec: f32}}]\naxes: {quantize.codec: [f32]}\n"
             "evaluate: {speed: false}\nreferences: false\n");
  const auto swept = [&](const char* folder, const Arguments& more) {
    Arguments all = {"sweep",    input,
                     "--config", scratch.file("sweep.yaml"),
                     "-o",       scratch.file(folder),
                     "--vocab",  "bytes",
                     "--text",   text,
                     "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    require_fine(all);
    const auto bytes = read_bytes(scratch.file(std::string(folder) + "/results.json"));
    const Json results =
        Json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    return results["points"][0]["metrics"]["bits_per_byte"]["value"].get<double>();
  };
  CHECK(swept("with", {"--group-norm-eps", "0.3"}) == Approx(expected).epsilon(1e-9));
  CHECK(swept("without", {}) != Approx(expected).epsilon(1e-9));
}
