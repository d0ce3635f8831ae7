// Quantizers that learn as part of a conversion: every version of the architecture, what the key
// `quantizer` means, and files that do not depend on threads.
#include <ATen/Parallel.h>

#include <cmath>
#include <map>

#include "compressor/checkpoint/open.h"
#include "tests/compressor/foreign_files.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

std::string recipe_with(const std::string& quantizer) {
  return "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
         "  - quantize: {codec: lut3, lora_codec: i8_row, min_numbers: 0, quantizer: " +
         quantizer + ", overrides: [{match: '*ffn.value*', codec: lut4}]}\n";
}

struct Bed {
  explicit Bed(const std::string& arch)
      : input(write_synth(scratch, arch, 128)), text(write_text(scratch, 4000)) {}

  Status pack(const std::string& recipe, const std::string& output, bool has_text) {
    return convert(input, scratch.file(output),
                   {.vocab = "bytes",
                    .set = {},
                    .recipe = recipe,
                    .texts = has_text ? std::vector{text} : std::vector<std::string>()});
  }
  std::vector<std::byte> bytes(const std::string& output) {
    return read_bytes(scratch.file(output));
  }

  ScratchFolder scratch;
  std::string input;
  std::string text;
};

const std::vector<int32_t> kTokens = {5, 99, 32, 200, 7, 7, 64, 31, 180, 2};

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  }
  return sum;
}

}  // namespace

TEST_CASE("Every version goes through the quantizers that learn", "[quantizers]") {
  const std::string arch = GENERATE("v4", "v5.1", "v5.2", "v6", "v7");
  INFO(arch);
  Bed bed(arch);
  const auto logits_of = [&](const std::string& file) {
    auto model = edge::Model::open(bed.scratch.file(file));
    REQUIRE_OK(model.status());
    return all_logits(model.take(), kTokens, kTokens.size());
  };
  REQUIRE_OK(bed.pack("name: t\nstages:\n  - quantize: {codec: f32, lora_codec: f32}\n", "f32.gguf",
                      false));
  const std::vector<float> dense = logits_of("f32.gguf");
  double energy = 0;
  for (const float logit : dense) {
    energy += std::pow(static_cast<double>(logit), 2);
  }
  for (const char* quantizer : {"weighted", "gptq", "refined"}) {
    INFO(quantizer);
    REQUIRE_OK(bed.pack(recipe_with(quantizer), "q.gguf", true));
    CHECK(distance(logits_of("q.gguf"), dense) < 0.5 * energy);
  }
}

TEST_CASE("Factor pairs are quantized factor by factor", "[quantizers]") {
  Bed bed("v5.2");
  REQUIRE_OK(
      bed.pack("name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
               "  - low_rank: {factor: 2}\n"
               "  - quantize: {codec: lut4, min_numbers: 0, quantizer: refined}\n",
               "pairs.gguf", true));
  CHECK(edge::Model::open(bed.scratch.file("pairs.gguf")).status().ok());
}

TEST_CASE("auto refines lut codecs where there is text, and else rounds to nearest",
          "[quantizers]") {
  Bed bed("v5.2");
  const auto weights_of = [&](const std::string& quantizer, bool has_text) {
    REQUIRE_OK(bed.pack(recipe_with(quantizer), "q.gguf", has_text));
    auto model = edge::Model::open(bed.scratch.file("q.gguf"));
    REQUIRE_OK(model.status());
    return all_logits(model.take(), kTokens, kTokens.size());
  };
  const std::vector<float> nearest = weights_of("nearest", false);
  CHECK((weights_of("auto", false) == nearest));
  const std::vector<float> refined = weights_of("refined", true);
  CHECK((weights_of("auto", true) == refined));
  CHECK_FALSE((refined == nearest));
  for (const char* quantizer : {"weighted", "gptq", "refined"}) {
    CHECK_THAT(bed.pack(recipe_with(quantizer), "none.gguf", false).message(),
               Catch::Contains("learns from text"));
  }
}

TEST_CASE("A refined file does not depend on the number of threads", "[quantizers]") {
  const std::string arch = GENERATE("v5.2", "v7");
  INFO(arch);
  Bed bed(arch);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  REQUIRE_OK(bed.pack(recipe_with("refined"), "one.gguf", true));
  at::set_num_threads(2);
  REQUIRE_OK(bed.pack(recipe_with("refined"), "two.gguf", true));
  at::set_num_threads(threads);
  CHECK((bed.bytes("one.gguf") == bed.bytes("two.gguf")));
}

TEST_CASE("head_groups changes the codes of the head alone, and is for refined", "[quantizers]") {
  Bed bed("v5.2");
  const auto tensors_of = [&](const std::string& quantizer) {
    REQUIRE_OK(bed.pack(recipe_with(quantizer), "q.gguf", true));
    const auto checkpoint = press::open_checkpoint(bed.scratch.file("q.gguf"));
    REQUIRE_OK(checkpoint.status());
    std::map<std::string, std::vector<std::byte>> tensors;
    for (const RawTensor& tensor : raw_tensors(*checkpoint.value().source)) {
      tensors[tensor.info.name] = tensor.bytes;
    }
    return tensors;
  };
  const auto without_key = tensors_of("refined");
  CHECK((tensors_of("refined, head_groups: 16") == without_key));  // of 256 rows
  const auto other = tensors_of("refined, head_groups: 100");
  REQUIRE(other.size() == without_key.size());
  for (const auto& [name, bytes] : without_key) {
    INFO(name);
    CHECK((other.at(name) == bytes) == (name != "head.weight"));
  }
  CHECK_THAT(bed.pack(recipe_with("gptq, head_groups: 100"), "none.gguf", true).message(),
             Catch::Contains("head_groups") && Catch::Contains("gptq"));
}
