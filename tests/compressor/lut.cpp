// Lut codecs from the recipe to the runtime: which matrix gets which form, the same bytes with any
// number of threads, and what runs is what was packed.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "compressor/checkpoint/synth.h"
#include "compressor/quantizers/lut_rounding.h"
#include "formats/base/checksum.h"
#include "formats/container/packed_tensors.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

std::map<std::string, PackedTensor> tensors_of(const std::string& path) {
  const std::vector<std::byte> file = read_bytes(path);
  const auto tensors = packed_tensors(GgufFile::parse(file, path).take());
  REQUIRE_OK(tensors.status());
  std::map<std::string, PackedTensor> found;
  for (const PackedTensor& tensor : tensors.value()) {
    found[tensor.name] = tensor;
  }
  return found;
}

}  // namespace

TEST_CASE("Presets lut4 and lut3: the form of each matrix", "[lut]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v7", 128);
  const auto name = [](const std::map<std::string, PackedTensor>& tensors, const char* tensor) {
    return std::string_view(codec_traits(tensors.at(tensor).codec).name);
  };
  const std::string four = scratch.file("four.gguf");
  REQUIRE_OK(convert(input, four, {"lut4", "", {}}));
  const auto lut4 = tensors_of(four);
  CHECK(name(lut4, "emb.weight") == "lut4_rows");
  CHECK(name(lut4, "blocks.1.att.key.weight") == "lut4");
  CHECK(name(lut4, "blocks.1.ffn.key.weight") == "lut4");
  CHECK(name(lut4, "blocks.1.ffn.value.weight") == "lut4_rows");
  CHECK(name(lut4, "head.weight") == "lut5");
  CHECK(name(lut4, "blocks.1.att.w1") == "i8_row");
  CHECK(name(lut4, "blocks.1.ln1.weight") == "f32");
  const std::string three = scratch.file("three.gguf");
  REQUIRE_OK(convert(input, three, {"lut3", "", {}}));
  const auto lut3 = tensors_of(three);
  CHECK(name(lut3, "emb.weight") == "lut4_rows");
  CHECK(name(lut3, "blocks.1.att.key.weight") == "lut3");
  CHECK(name(lut3, "blocks.1.att.output.weight") == "lut4");
  CHECK(name(lut3, "blocks.1.ffn.value.weight") == "lut4_rows");
  CHECK(name(lut3, "head.weight") == "lut5");
}

TEST_CASE("Lut codecs: a clustered head and predicted keys lie in rows", "[lut]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2", 128);
  const std::string path = scratch.file("lite.gguf");
  Conversion how;
  how.vocab = "bytes";
  how.texts = {write_text(scratch, 6000)};
  how.recipe =
      "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
      "  - cluster_head: {clusters: 8}\n"
      "  - ffn_predictor: {kinds: sign}\n"
      "  - quantize: {codec: lut3, lora_codec: i8_row, min_numbers: 0}\n";
  const auto model = convert_and_open(input, path, how);
  const auto tensors = tensors_of(path);
  CHECK(tensors.at("head.weight").codec == Codec::Lut3Rows);
  CHECK(tensors.at("blocks.0.ffn.key.weight").codec == Codec::Lut3Rows);
  CHECK(tensors.at("blocks.0.att.key.weight").codec == Codec::Lut3);
  const std::vector<int32_t> tokens = {1, 99, 5, 5, 17, 42};
  CHECK(all_logits(model, tokens, 1) == all_logits(model, tokens, 6, 2));
}

TEST_CASE("Presets of low rank and low bits work on every version", "[lut]") {
  const std::string arch = GENERATE("v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058", "x059");
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, arch, 128);
  Conversion how;
  how.vocab = "bytes";
  how.texts = {write_text(scratch, 6000)};
  how.set = {"calibration.samples=16", "calibration.length=32",  "cluster_head.clusters=20",
             "low_rank.factor=2",      "ffn_predictor.epochs=2", "cluster_head.epochs=2"};
  const auto bytes_of = [&](const char* preset) {
    how.preset = preset;
    INFO(arch << " " << preset);
    const std::string path = scratch.file(std::string(preset) + ".gguf");
    const auto model = convert_and_open(input, path, how);
    const std::vector<int32_t> tokens = {1, 99, 5, 5, 17, 42};
    const std::vector<float> logits = all_logits(model, tokens, 1);
    CHECK(logits == all_logits(model, tokens, 6, 2));
    CHECK(std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
    const auto tensors = tensors_of(path);
    CHECK(tensors.at("emb.weight").codec ==
          (std::string_view(preset).ends_with("int8") ? Codec::I8Row : Codec::Lut4Rows));
    CHECK(tensors.at("head.cluster.weight").codec != Codec::Lut3);
    uint64_t bytes = 0;
    for (const auto& [tensor, packed] : tensors) {
      bytes += packed.n_bytes;
    }
    return bytes;
  };
  const uint64_t int8 = bytes_of("rwkv-lite-int8");
  const uint64_t four = bytes_of("rwkv-lite-lut4");
  CHECK(four < int8);
  CHECK(bytes_of("rwkv-lite-lut3") < four);
  how.texts.clear();
  const Status without = convert(input, scratch.file("none.gguf"), how);
  CHECK(without.code() == Code::Usage);
  CHECK_THAT(without.message(), Contains("calibration"));
}

TEST_CASE("Lut codecs: columns that are no multiple of 64 stay in int8", "[lut]") {
  const ScratchFolder scratch;
  press::SynthOptions options;
  options.model.arch = "v5.2";
  options.model.n_layer = 1;
  options.model.n_embd = 96;
  options.model.head_size = 32;
  options.model.n_vocab = 256;
  options.output = scratch.file("m.pth");
  REQUIRE_OK(press::write_synthetic(options).status());
  const std::string input = options.output;
  const std::string path = scratch.file("a.gguf");
  REQUIRE_OK(convert(input, path, {"lut4", "", {}}));
  for (const auto& [tensor, packed] : tensors_of(path)) {
    INFO(tensor << " " << packed.cols);
    CHECK((codec_traits(packed.codec).lut == nullptr || packed.cols % 64 == 0));
  }
  CHECK(tensors_of(path).at("head.weight").codec == Codec::I8Row);
}

TEST_CASE("Lut codecs: encoding on threads gives the codec's bytes", "[lut]") {
  constexpr uint64_t kRows = 150, kCols = 192;
  std::vector<float> values(kRows * kCols);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = noise(3, i);
  }
  for (const CodecTraits& codec : codec_list()) {
    if (!codec.lut) {
      continue;
    }
    INFO(codec.name);
    std::vector<std::byte> plain(codec.encoded_bytes(kRows, kCols));
    std::vector<std::byte> threaded(plain.size());
    REQUIRE_OK(codec.encode(values, {kRows, kCols}, plain));
    at::set_num_threads(2);
    REQUIRE_OK(press::encode_on_threads(codec.codec, values, {kRows, kCols}, threaded));
    at::set_num_threads(1);
    CHECK((threaded == plain));
    std::vector<float> spoiled = values;
    spoiled[7 * kCols + 5] = std::nanf("");
    const Status status = press::encode_on_threads(codec.codec, spoiled, {kRows, kCols}, threaded);
    CHECK_THAT(status.message(), Contains("row 7, column 5"));
  }
}

TEST_CASE("A lut file unpacked and packed in f32 is the same model", "[lut]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  const std::string preset = GENERATE("lut4", "lut3");
  INFO(arch << " " << preset);
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, arch, 128);
  const auto model = convert_and_open(input, scratch.file("a.gguf"), {preset, "", {}});
  const auto again =
      convert_and_open(scratch.file("a.gguf"), scratch.file("b.gguf"), {"fp32", "", {}});
  const std::vector<int32_t> tokens = {1, 2, 3, 60, 69, 0, 200};
  const std::vector<float> logits = all_logits(model, tokens, 1);
  const std::vector<float> expected = all_logits(again, tokens, 1);
  CHECK(logits == all_logits(model, tokens, 7, 2));
  double energy = 0;
  double error = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    energy += std::pow(static_cast<double>(expected[i]), 2);
    error += std::pow(static_cast<double>(logits[i]) - static_cast<double>(expected[i]), 2);
  }
  CAPTURE(std::sqrt(error / energy));
  // Inputs of 8 bits, and ln0 applied twice.
  CHECK(error < 0.03 * 0.03 * energy);
  // In its own form it is copied.
  REQUIRE_OK(convert(scratch.file("a.gguf"), scratch.file("c.gguf"), {preset, "", {}}));
  const auto before = tensors_of(scratch.file("a.gguf"));
  for (const auto& [tensor, packed] : tensors_of(scratch.file("c.gguf"))) {
    CHECK(packed.xxh64 == before.at(tensor).xxh64);
  }
}

TEST_CASE("A file with a table that kernels may not use is refused by name", "[lut]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2", 64);
  const std::string path = scratch.file("a.gguf");
  REQUIRE_OK(convert(input, path, {"lut4", "", {}}));
  const PackedTensor tensor = tensors_of(path).at("blocks.1.att.key.weight");
  std::vector<std::byte> file = read_bytes(path);
  file[tensor.offset + 3] = std::byte{0x7f};
  write_bytes(scratch.file("b.gguf"), file);
  const auto model = edge::Model::open(scratch.file("b.gguf"), {});
  CHECK(model.status().code() == Code::BadInput);
  CHECK_THAT(model.status().message(), Contains("tensor 'blocks.1.att.key.weight'") &&
                                           Contains("value 3 of its table is 127"));
}
