// The choice between two quantizers as part of a conversion, and quantizers that learn from a
// statistics file.
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "compressor/calibrate/statistics.h"
#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/sealed_file.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/prediction_distance.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/packed_tensors.h"
#include "formats/container/safetensors_reader.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

struct Bed {
  explicit Bed(const std::string& arch = "v5.2")
      : input(write_synth(scratch, arch, 128)), text(write_text(scratch, 8000)) {}

  // `keys` of the stage quantize, on top of lut3 for everything.
  Status pack(const std::string& keys, const std::string& output, const std::string& stats = "") {
    return convert(input, scratch.file(output),
                   {.vocab = "bytes",
                    .set = {},
                    .recipe = "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
                              "  - quantize: {codec: lut3, lora_codec: i8_row, min_numbers: 0, " +
                              keys + "}\n",
                    .texts = stats.empty() ? std::vector{text} : std::vector<std::string>(),
                    .statistics = stats});
  }
  // Packs; name, codec and bytes of every tensor.
  std::map<std::string, std::pair<Codec, std::vector<std::byte>>> tensors(const std::string& keys) {
    REQUIRE_OK(pack(keys, "t.gguf"));
    const std::vector<std::byte> file = read_bytes(scratch.file("t.gguf"));
    const auto list = packed_tensors(GgufFile::parse(file, "t.gguf").take());
    REQUIRE_OK(list.status());
    std::map<std::string, std::pair<Codec, std::vector<std::byte>>> result;
    for (const PackedTensor& tensor : list.value()) {
      const auto bytes = std::span(file).subspan(tensor.offset, tensor.n_bytes);
      result[tensor.name] = {tensor.codec, {bytes.begin(), bytes.end()}};
    }
    std::filesystem::remove(scratch.file("t.gguf"));
    return result;
  }
  std::string refusal(const std::string& keys, const std::string& stats = "") {
    const Status status = pack(keys, "refused.gguf", stats);
    CHECK_FALSE(std::filesystem::exists(scratch.file("refused.gguf")));
    return status.message();
  }
  std::string write_stats(press::MomentsOf moments) {
    auto checkpoint = press::open_checkpoint(input);
    REQUIRE_OK(checkpoint.status());
    const auto model = press::identify_checkpoint(*checkpoint.value().source);
    press::CalibrationOptions options;
    options.texts = {text};
    options.samples = 8;
    options.length = 32;
    auto calibration = press::sample_texts(options, Vocabulary{}, model.value().config);
    REQUIRE_OK(calibration.status());
    const std::string path = scratch.file("stats.safetensors");
    REQUIRE_OK(press::write_statistics(
        *checkpoint.value().source, model.value().config, calibration.value(), path,
        OutputFile::Existing::Replace, [](double) {}, moments));
    return path;
  }

  ScratchFolder scratch;
  std::string input;
  std::string text;
};

}  // namespace

TEST_CASE("Shares of none and of all: every matrix as by one quantizer alone", "[selection]") {
  Bed bed(GENERATE("v5.2", "v7"));
  const auto scalar = bed.tensors("quantizer: gptq_uniform");
  const auto codebook = bed.tensors("quantizer: gptvq_table");
  CHECK_FALSE((scalar == codebook));
  const char* const selector = GENERATE("proxy", "proxy_unique", "crest");
  const std::string keys = std::string("selector: ") + selector;
  CHECK((bed.tensors(keys + ", coarse: 1, fine: 1") == scalar));
  CHECK((bed.tensors(keys + ", coarse: 0") == codebook));
  const auto mixed = bed.tensors(keys);
  CHECK_FALSE((mixed == scalar));
  CHECK_FALSE((mixed == codebook));
}

TEST_CASE("Measured choices: same bytes with any number of threads, of equal size", "[selection]") {
  Bed bed(GENERATE("v4", "v6", "v7"));
  const std::string keys = GENERATE("selector: output_error", "selector: kl");
  INFO(keys);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = bed.tensors(keys);
  at::set_num_threads(2);
  const auto two = bed.tensors(keys);
  at::set_num_threads(threads);
  CHECK((one == two));
  for (const auto& [name, tensor] : bed.tensors("quantizer: gptq")) {
    CHECK(one.at(name).second.size() == tensor.second.size());
  }
}

TEST_CASE("By output error, each matrix gets what loses less of it", "[selection]") {
  Bed bed;
  const std::string better = "selector: output_error, scalar: nearest, codebook: refined";
  CHECK((bed.tensors(better) == bed.tensors("quantizer: refined")));
}

TEST_CASE("A budget is what the chosen matrices take at most", "[selection]") {
  Bed bed;
  const auto bytes_of = [](const auto& tensors) {
    uint64_t bytes = 0;
    for (const auto& [name, tensor] : tensors) {
      const bool is_chosen = name.find(".weight") != std::string::npos &&
                             (name.find("att.") != std::string::npos ||
                              name.find("ffn.") != std::string::npos || name == "head.weight") &&
                             codec_traits(tensor.first).lut != nullptr;
      bytes += is_chosen ? tensor.second.size() : 0;
    }
    return bytes;
  };
  const uint64_t three = bytes_of(bed.tensors("quantizer: gptq"));
  const std::string keys = "selector: crest, codebook: gptq, codebook_codec: lut4, coarse: 0";
  const auto all = bed.tensors(keys);
  const uint64_t four = bytes_of(all);
  REQUIRE(four > three);
  CHECK(all.at("blocks.0.ffn.value.weight").first == Codec::Lut4Rows);
  CHECK(all.at("head.weight").first == Codec::Lut4);
  const uint64_t between = (three + four) / 2;
  const uint64_t used = bytes_of(bed.tensors(keys + ", budget: " + std::to_string(between)));
  CHECK(used <= between);
  CHECK(used > three);
  CHECK(bytes_of(bed.tensors(keys + ", budget: " + std::to_string(three))) == three);
  CHECK_THAT(bed.refusal(keys + ", budget: " + std::to_string(three - 1)),
             Catch::Contains("quantize.budget: expected at least " + std::to_string(three)));
}

TEST_CASE("Codebooks that no codec holds are packed in f16", "[selection]") {
  Bed bed;
  const auto alone = bed.tensors("quantizer: gptvq");
  CHECK(alone.at("blocks.0.att.key.weight").first == Codec::F16);
  CHECK(alone.at("head.weight").first == Codec::F16);
  CHECK(alone.at("emb.weight").first == Codec::Lut3Rows);
  const auto hybrid = bed.tensors("selector: proxy, codebook: gptvq");
  size_t n_codebooks = 0;
  for (const auto& [name, tensor] : hybrid) {
    n_codebooks += tensor.first == Codec::F16 ? 1 : 0;
  }
  CHECK(n_codebooks > 0);
  CHECK(n_codebooks < 16);
}

TEST_CASE("The recipe in the file chooses the same again", "[selection]") {
  Bed bed;
  const std::string keys =
      "selector: proxy_unique, scalar: gptq, coarse: 0.75, fine: 0.5, sequential: false";
  REQUIRE_OK(bed.pack(keys, "a.gguf"));
  const auto file = GgufFile::parse(read_bytes(bed.scratch.file("a.gguf")), "a.gguf").take();
  const auto recipe = file.metadata().get_string("press.recipe");
  REQUIRE_OK(recipe.status());
  CHECK_THAT(recipe.value(),
             Catch::Contains("selector: proxy_unique") && Catch::Contains("sequential: false"));
  REQUIRE_OK(convert(bed.input, bed.scratch.file("b.gguf"),
                     {.vocab = "bytes", .set = {}, .recipe = recipe.value(), .texts = {bed.text}}));
  CHECK((read_bytes(bed.scratch.file("a.gguf")) == read_bytes(bed.scratch.file("b.gguf"))));
}

TEST_CASE("Settings of a choice that have no effect are refused", "[selection]") {
  Bed bed;
  CHECK_THAT(bed.refusal("selector: kl, quantizer: refined"),
             Catch::Contains("quantize.selector chooses one of two"));
  CHECK_THAT(bed.refusal("budget: 1MB"), Catch::Contains("quantize.budget is for choosing"));
  CHECK_THAT(bed.refusal("codebook_codec: lut4"),
             Catch::Contains("quantize.codebook_codec is for choosing"));
  CHECK_THAT(bed.refusal("selector: kl, codebook_codec: f16"),
             Catch::Contains("expected a lut codec, got f16"));
  CHECK_THAT(bed.refusal("selector: entropy"), Catch::Contains("quantize.selector: expected none"));
  const Status few =
      convert(bed.input, bed.scratch.file("few.gguf"),
              {.vocab = "bytes",
               .set = {},
               .recipe = "name: t\ncalibration: {samples: 3, length: 32}\nstages:\n"
                         "  - quantize: {codec: lut3, selector: kl, min_numbers: 0}\n",
               .texts = {bed.text}});
  CHECK_THAT(few.message(), Catch::Contains("expected at least 4, found 3"));
  CHECK_THAT(convert(bed.input, bed.scratch.file("none.gguf"),
                     {.vocab = "bytes",
                      .set = {},
                      .recipe = "name: t\nstages:\n  - quantize: {codec: lut3, selector: proxy}\n"})
                 .message(),
             Catch::Contains("learns from text"));
}

TEST_CASE("The distance of predictions is the mean KL over tokens", "[selection]") {
  const at::Tensor z = at::tensor({1.0f, 0.0f, 0.5f, -1.0f}).reshape({2, 2});
  const at::Tensor head = at::tensor({1.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f}).reshape({3, 2});
  const at::Tensor other = head * 0.5;
  CHECK(press::prediction_distance(z, head, z, head) == Approx(0.0).margin(1e-7));
  const at::Tensor p = at::softmax(at::mm(z, head.t()), 1).to(at::kDouble);
  const at::Tensor q = at::softmax(at::mm(z, other.t()), 1).to(at::kDouble);
  const double expected = (p * (p / q).log()).sum().item<double>() / 2;
  CHECK(press::prediction_distance(z, head, z, other) == Approx(expected).epsilon(1e-4));
}

TEST_CASE("Quantizers learn from the moments of a statistics file", "[selection]") {
  Bed bed(GENERATE("v5.2", "v7"));
  const std::string stats = bed.write_stats(press::MomentsOf::All);
  const std::string keys = "quantizer: refined, sequential: false";
  REQUIRE_OK(bed.pack(keys, "text.gguf"));
  REQUIRE_OK(bed.pack(keys, "stats.gguf", stats));
  const auto of_text = read_bytes(bed.scratch.file("text.gguf"));
  CHECK((of_text == read_bytes(bed.scratch.file("stats.gguf"))));
  // Those of quantized blocks are others, and need the tokens alone.
  REQUIRE_OK(bed.pack("quantizer: refined", "sequential.gguf",
                      bed.write_stats(press::MomentsOf::AllButNeurons)));
  CHECK_FALSE((of_text == read_bytes(bed.scratch.file("sequential.gguf"))));
}

TEST_CASE("A statistics file without the moments that a quantizer needs is refused by name",
          "[selection]") {
  Bed bed;
  const std::string keys = "quantizer: gptq, sequential: false";
  const std::string few = bed.write_stats(press::MomentsOf::AllButNeurons);
  CHECK_THAT(bed.refusal(keys, few),
             Catch::Contains("stats.safetensors: expected 'blocks.0.ffn.value.moments'") &&
                 Catch::Contains("calibrate --all-moments"));
  // Nor one with moments that are no numbers, or of another size.
  const auto good = open_safetensors(bed.write_stats(press::MomentsOf::All));
  REQUIRE_OK(good.status());
  const std::string name = GENERATE("blocks.1.ffn.value.moments", "head.moments");
  const bool is_cut = GENERATE(false, true);
  std::vector<TensorInfo> infos = good.value()->tensors();
  infos.pop_back();  // the checksum
  for (TensorInfo& info : infos) {
    info.shape.front() -= info.name == name && is_cut ? 1 : 0;
  }
  const std::string bad = bed.scratch.file("bad.safetensors");
  REQUIRE_OK(press::write_sealed(bad, OutputFile::Existing::Replace, infos,
                                 [&](size_t i, std::vector<std::byte>& out) {
                                   const Status status = good.value()->read(i, out);
                                   out.resize(infos[i].n_bytes());
                                   if (infos[i].name == name && !is_cut) {
                                     const float not_a_number = std::nanf("");
                                     std::memcpy(out.data(), &not_a_number, sizeof(float));
                                   }
                                   return status;
                                 }));
  CHECK_THAT(
      bed.refusal(keys, bad),
      Catch::Contains(name) && Catch::Contains(is_cut ? "does not fit the model" : "not finite"));
}

TEST_CASE("Factor pairs learn from original activations too", "[selection]") {
  Bed bed;
  const auto pack = [&](const std::string& output, const std::string& stats) {
    return convert(bed.input, bed.scratch.file(output),
                   {.vocab = "bytes",
                    .set = {},
                    .recipe = "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
                              "  - low_rank: {factor: 2, sequential: false}\n"
                              "  - quantize: {codec: lut4, min_numbers: 0, sequential: false}\n",
                    .texts = stats.empty() ? std::vector{bed.text} : std::vector<std::string>(),
                    .statistics = stats});
  };
  REQUIRE_OK(pack("text.gguf", ""));
  REQUIRE_OK(pack("stats.gguf", bed.write_stats(press::MomentsOf::All)));
  // The first block's inputs are the same in both.
  const auto first_pair = [&](const std::string& output) {
    const std::vector<std::byte> file = read_bytes(bed.scratch.file(output));
    for (const PackedTensor& tensor : packed_tensors(GgufFile::parse(file, output).take()).take()) {
      if (tensor.name == "blocks.0.att.key2.weight") {
        const auto bytes = std::span(file).subspan(tensor.offset, tensor.n_bytes);
        return std::vector<std::byte>(bytes.begin(), bytes.end());
      }
    }
    return std::vector<std::byte>();
  };
  CHECK_FALSE(first_pair("text.gguf").empty());
  CHECK((first_pair("text.gguf") == first_pair("stats.gguf")));
}

TEST_CASE("Mixing vectors of a few values, weighted with what they are multiplied with",
          "[selection]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  INFO(arch);
  Bed bed(arch);
  const std::string name = std::string("blocks.1.att.") + (arch == "v7"   ? "x_k"
                                                           : arch == "v6" ? "time_maa_k"
                                                                          : "time_mix_k");
  const auto values_of = [&](const std::string& keys) {
    const auto tensor = bed.tensors("quantizer: nearest, " + keys).at(name);
    REQUIRE(tensor.first == Codec::F32);
    std::vector<float> values(tensor.second.size() / sizeof(float));
    std::memcpy(values.data(), tensor.second.data(), tensor.second.size());
    return values;
  };
  const std::vector<float> own = values_of("mixing: off");
  const auto n_different = [](std::vector<float> values) {
    std::sort(values.begin(), values.end());
    return std::unique(values.begin(), values.end()) - values.begin();
  };
  const auto distance = [&](const std::vector<float>& values) {
    double sum = 0;
    for (size_t i = 0; i < own.size(); ++i) {
      sum += std::pow(static_cast<double>(values[i]) - static_cast<double>(own[i]), 2);
    }
    return sum;
  };
  const std::vector<float> even = values_of("mixing: even, mixing_values: 4");
  const std::vector<float> means = values_of("mixing: kmeans, mixing_values: 4");
  const std::vector<float> weighted = values_of("mixing: weighted, mixing_values: 4");
  for (const auto& few : {even, means, weighted}) {
    CHECK(n_different(few) <= 4);
    CHECK(distance(few) > 0);
  }
  CHECK(distance(means) <= distance(even));
  // Weighted centroids are further by the plain measure.
  CHECK_FALSE((weighted == means));
  CHECK(distance(weighted) >= distance(means) * 0.999);
  CHECK(distance(values_of("mixing: kmeans, mixing_values: 64")) < 0.05 * distance(means));
}
