// Synthetic checkpoints: every version is what it says, the same seed gives the same bytes, and the
// statistics that benchmarks rely on hold.
#include "compressor/checkpoint/synth.h"

#include <cmath>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth_values.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

press::SynthOptions small(const std::string& arch, const std::string& output) {
  press::SynthOptions options;
  options.model.arch = arch;
  options.model.n_layer = 3;
  options.model.n_embd = 128;
  options.model.n_vocab = 100;
  options.output = output;
  return options;
}

}  // namespace

TEST_CASE("Synthetic checkpoints are identified as what they were asked to be", "[synth]") {
  const std::string arch = GENERATE("v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058", "x059");
  const std::string ending = GENERATE(".pth", ".safetensors");
  const ScratchFolder scratch;
  const std::string path = scratch.file("m" + ending);
  REQUIRE_OK(press::write_synthetic(small(arch, path)).status());
  auto checkpoint = press::open_checkpoint(path);
  REQUIRE_OK(checkpoint.status());
  auto model = press::identify_checkpoint(*checkpoint.value().source);
  REQUIRE_OK(model.status());
  CHECK(version_label(model.value().config) == arch);
  CHECK(model.value().config.n_layer == 3);
  CHECK(model.value().config.n_embd == 128);
  CHECK(model.value().config.n_vocab == 100);
}

TEST_CASE("A seed gives the same synthetic bytes, another seed others", "[synth]") {
  const ScratchFolder scratch;
  const auto write = [&](const std::string& name, uint64_t seed) {
    press::SynthOptions options = small("v7", scratch.file(name));
    options.seed = seed;
    REQUIRE_OK(press::write_synthetic(options).status());
    return read_bytes(scratch.file(name));
  };
  const auto first = write("a.pth", 1);
  CHECK(first == write("b.pth", 1));
  CHECK(first != write("c.pth", 2));
}

TEST_CASE("Synthetic models step and prefill to the same finite logits", "[synth]") {
  const std::string arch = GENERATE("v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058", "x059");
  const std::string preset = GENERATE("fp32", "fp16", "int8", "mm8");
  const ScratchFolder scratch;
  REQUIRE_OK(press::write_synthetic(small(arch, scratch.file("m.pth"))).status());
  const auto model =
      convert_and_open(scratch.file("m.pth"), scratch.file("m.gguf"), {preset, "", {}});
  const std::vector<int32_t> tokens = {0, 99, 5, 5, 17, 42, 1, 2, 3, 4, 5};
  const std::vector<float> steps = all_logits(model, tokens, 1);
  CHECK(steps == all_logits(model, tokens, 4, 2));
  for (const float logit : steps) {
    REQUIRE(std::fabs(logit) < 100.0f);
  }
}

TEST_CASE("About 80 % of synthetic neurons are zero", "[synth]") {
  // Inputs as a layer norm makes them, mixed with the token before, which in a residual stream is
  // alike in part (0.6 here).
  constexpr uint64_t kEmbd = 512;
  constexpr uint64_t kFfn = 1792;
  const auto vector = [&](const char* name) {
    return press::synth_values({name, Role::Vector, Layout::AsIs, {kEmbd}, 0.5}, 0);
  };
  const std::vector<float> weight = vector("blocks.1.ln2.weight");
  const std::vector<float> bias = vector("blocks.1.ln2.bias");
  const std::vector<float> mix = vector("blocks.1.ffn.time_mix_k");
  const std::vector<float> key = press::synth_values(
      {"blocks.1.ffn.key.weight", Role::FfnKey, Layout::AsIs, {kFfn, kEmbd}, 0.5}, 0);
  uint64_t zeros = 0;
  constexpr uint64_t kTokens = 20;
  const auto normal = [&](uint64_t t, uint64_t i) {
    return std::sqrt(3.0f) * noise(t, i);  // uniform with variance 1
  };
  for (uint64_t t = 0; t < kTokens; ++t) {
    std::vector<float> x(kEmbd);
    for (uint64_t i = 0; i < kEmbd; ++i) {
      const float now = normal(2 * t, i);
      const float before = 0.6f * now + 0.8f * normal(2 * t + 1, i);
      x[i] = (now * mix[i] + before * (1.0f - mix[i])) * weight[i] + bias[i];
    }
    for (uint64_t f = 0; f < kFfn; ++f) {
      float sum = 0.0f;
      for (uint64_t i = 0; i < kEmbd; ++i) {
        sum += key[f * kEmbd + i] * x[i];
      }
      zeros += sum <= 0.0f ? 1 : 0;
    }
  }
  const double share = static_cast<double>(zeros) / static_cast<double>(kTokens * kFfn);
  fmt::print("synthetic neurons at zero: {:.3f}\n", share);
  CHECK(share > 0.77);
  CHECK(share < 0.85);
}

TEST_CASE("Impossible synthetic sizes are refused", "[synth]") {
  const ScratchFolder scratch;
  press::SynthOptions options = small("v5.2", scratch.file("m.pth"));
  SECTION("unknown version") {
    options.model.arch = "v5.3";
  }
  SECTION("heads that do not fit") {
    options.model.n_embd = 100;
  }
  SECTION("no layers") {
    options.model.n_layer = 0;
  }
  SECTION("unknown type") {
    options.dtype = "int8";
  }
  SECTION("unknown ending") {
    options.output = scratch.file("m.bin");
  }
  const auto result = press::write_synthetic(options);
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == Code::Usage);
  CHECK(scratch.entries().empty());
}
