// Initial models: complete, BlinkDL's values, and a start that looks things up.
#include <cmath>

#include "compressor/checkpoint/open.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/initial_values.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

// A tensor of the initial model, flat, in f64.
std::vector<double> values_of(const TensorSource& source, const std::string& name) {
  auto loaded = press::load_named(source, name);
  REQUIRE_OK(loaded.status());
  const at::Tensor flat = loaded.value().to(at::kDouble).flatten().contiguous();
  return {flat.data_ptr<double>(), flat.data_ptr<double>() + flat.numel()};
}

bool same_bytes(const TensorSource& a, const TensorSource& b) {
  bool is_same = a.tensors().size() == b.tensors().size();
  for (size_t i = 0; is_same && i < a.tensors().size(); ++i) {
    std::vector<std::byte> from_a;
    std::vector<std::byte> from_b;
    REQUIRE_OK(a.read(i, from_a));
    REQUIRE_OK(b.read(i, from_b));
    is_same = from_a == from_b && a.tensors()[i].name == b.tensors()[i].name;
  }
  return is_same;
}

// Three blocks of two heads, so that the second is neither the first nor the last.
press::NewModelOptions three_blocks(const std::string& arch) {
  press::NewModelOptions options;
  options.arch = arch;
  options.n_layer = 3;
  options.n_embd = 128;
  options.n_vocab = 256;
  return options;
}

}  // namespace

TEST_CASE("Initial models are complete, and the same for the same seed", "[train]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  CAPTURE(arch);
  auto source = press::initial_model(three_blocks(arch), {.seed = 5});
  REQUIRE_OK(source.status());
  auto model = press::identify_checkpoint(*source.value());
  REQUIRE_OK(model.status());
  CHECK(version_label(model.value().config) == arch);
  CHECK(model.value().config.n_layer == 3);
  CHECK(model.value().config.n_embd == 128);
  const std::vector<TensorInfo>& infos = source.value()->tensors();
  for (size_t i = 0; i < infos.size(); ++i) {
    std::vector<std::byte> raw;
    REQUIRE_OK(source.value()->read(i, raw));
    CAPTURE(infos[i].name);
    CHECK(raw.size() == infos[i].n_bytes());
  }
  CHECK(same_bytes(*source.value(), *press::initial_model(three_blocks(arch), {.seed = 5}).take()));
  CHECK_FALSE(
      same_bytes(*source.value(), *press::initial_model(three_blocks(arch), {.seed = 6}).take()));
  for (const double value : values_of(*source.value(), "blocks.2.att.output.weight")) {
    REQUIRE(value == 0);
  }
  if (arch == "x059") {
    for (const double value : values_of(*source.value(), "blocks.1.att.key_diag")) {
      REQUIRE(value == 1);
    }
  }
}

// Formulas from RWKV-LM's RWKV-v5/src/model.py and RWKV-v7/train_temp/src/model.py; the middle one
// of three layers of 128.
TEST_CASE("Initial values are those that the versions were published with", "[train]") {
  constexpr double kDepth = 0.5;       // ratio_0_to_1 = 1 / 2
  constexpr double kLeft = 2.0 / 3.0;  // ratio_1_to_almost0 = 1 - 1 / 3
  constexpr double kWidth = 128;
  const std::string block = "blocks.1.";
  const auto check = [&](const TensorSource& source, const std::string& name, auto formula) {
    const std::vector<double> values = values_of(source, block + name);
    REQUIRE(values.size() == 128);
    for (const size_t n : {0, 1, 2, 63, 64, 100, 127}) {
      CAPTURE(source.tensors().size(), name, n);
      CHECK(values[n] == Approx(formula(static_cast<double>(n))).margin(1e-5));
    }
  };
  const auto decay = [](double n) {
    return -6 + 5 * std::pow(n / (kWidth - 1), 0.7 + 1.3 * kDepth);
  };
  const auto bonus = [](double n) {
    return kDepth * (1 - n / (kWidth - 1)) + (std::fmod(n + 1, 3) - 1) * 0.1;
  };
  const auto power = [](double n, double p) { return std::pow(n / kWidth, p); };

  const auto v5 = press::initial_model(three_blocks("v5.2"), {.seed = 1}).take();
  check(*v5, "att.time_mix_k", [&](double n) { return power(n, kLeft); });
  check(*v5, "att.time_mix_v", [&](double n) { return power(n, kLeft) + 0.3 * kDepth; });
  check(*v5, "att.time_mix_r", [&](double n) { return power(n, 0.5 * kLeft); });
  check(*v5, "att.time_mix_g", [&](double n) { return power(n, 0.5 * kLeft); });
  check(*v5, "ffn.time_mix_k", [&](double n) { return power(n, kLeft); });
  check(*v5, "ffn.time_mix_r", [&](double n) { return power(n, kLeft); });
  check(*v5, "att.time_decay", decay);
  check(*v5, "att.time_faaaa", bonus);
  check(*v5, "att.ln_x.weight", [](double) { return std::pow(2.0 / 3.0, 0.7); });
  check(*v5, "ln2.bias", [](double) { return 0.0; });

  const auto v6 = press::initial_model(three_blocks("v6"), {.seed = 1}).take();
  check(*v6, "att.time_maa_x", [&](double n) { return 1 - power(n, kLeft); });
  check(*v6, "att.time_maa_v", [&](double n) { return 1 - (power(n, kLeft) + 0.3 * kDepth); });
  check(*v6, "att.time_maa_g", [&](double n) { return 1 - power(n, 0.5 * kLeft); });
  check(*v6, "ffn.time_maa_r", [&](double n) { return 1 - power(n, kLeft); });
  check(*v6, "att.time_decay", decay);
  check(*v6, "att.time_faaaa", bonus);

  const auto v7 = press::initial_model(three_blocks("v7"), {.seed = 1}).take();
  const auto zigzag = [](double n) {
    const double z = (std::fmod(n, 64) - 31.5) / 31.5;
    return z * std::fabs(z);
  };
  const auto line = [](double n) { return n / (kWidth - 1) - 0.5; };
  check(*v7, "att.x_r", [&](double n) { return 1 - power(n, 0.2 * kLeft); });
  check(*v7, "att.x_w", [&](double n) { return 1 - power(n, 0.9 * kLeft); });
  check(*v7, "att.x_k", [&](double n) { return 1 - power(n, 0.7 * kLeft); });
  check(*v7, "ffn.x_k", [&](double n) { return 1 - power(n, std::pow(kLeft, 4)); });
  check(*v7, "att.w0", [&](double n) {
    return -6 + 6 * std::pow(n / (kWidth - 1), 1 + std::pow(kDepth, 0.3)) + 0.5 + zigzag(n) * 2.5;
  });
  check(*v7, "att.a0", [&](double n) { return -0.19 + zigzag(n) * 0.3 + line(n) * 0.4; });
  check(*v7, "att.v0", [&](double n) { return 0.73 - line(n) * 0.4; });
  check(*v7, "att.k_k", [&](double n) { return 0.71 - line(n) * 0.1; });
  check(*v7, "att.r_k", [](double) { return -0.04; });
  double largest = 0;
  for (const double value : values_of(*v7, "blocks.1.att.key.weight")) {
    largest = std::max(largest, std::fabs(value));
  }
  const double bound = 0.05 / std::sqrt(kWidth);
  CHECK(largest <= bound);
  CHECK(largest > 0.99 * bound);
  // Orthonormal columns times 0.5 sqrt(256 / 128).
  const auto head = press::load_named(*v7, "head.weight");
  REQUIRE_OK(head.status());
  const at::Tensor squares = at::mm(head.value().t(), head.value());
  CHECK((squares - at::eye(128) * 0.5).abs().max().item<float>() < 1e-4f);
}

TEST_CASE("A mimetic start lets the recurrence copy and gather", "[train]") {
  for (const char* arch : {"v5.0", "v5.2", "v6"}) {
    CAPTURE(arch);
    const auto source =
        press::initial_model(three_blocks(arch), {.seed = 1, .tied_start = true, .mimetic = true})
            .take();
    const auto matrix = [&](const std::string& name) {
      auto loaded = press::load_named(*source, name);
      REQUIRE_OK(loaded.status());
      return loaded.value().to(at::kDouble);
    };
    const at::Tensor key = matrix("blocks.1.att.key.weight");
    const at::Tensor value = matrix("blocks.1.att.value.weight");
    CHECK((matrix("blocks.1.att.receptance.weight") - 10 * key).abs().max().item<double>() < 1e-6);
    CHECK((matrix("blocks.1.att.output.weight") - value.t()).abs().max().item<double>() < 1e-7);
    // Orthonormal: what is copied comes back as it was. The last channel is a constant.
    const auto is_unit = [](const at::Tensor& all, double gain) {
      const at::Tensor columns = all.narrow(1, 0, 127) / gain;
      return (at::mm(columns.t(), columns) - at::eye(127)).abs().max().item<double>() < 1e-5;
    };
    CHECK(is_unit(value, 1.0));
    CHECK(value.select(1, 127).abs().max().item<double>() == 0);
    for (const char* block : {"blocks.0.", "blocks.1."}) {
      CHECK(matrix(std::string(block) + "ln1.weight")[127].item<double>() == 0);
      CHECK(matrix(std::string(block) + "ln1.bias")[127].item<double>() == 4);
    }
    // Memories of 0.98 to 0.999 a token, but for a quarter of the heads; in the first block a half.
    if (std::string(arch) != "v5.0") {
      const at::Tensor decay = matrix("blocks.1.att.time_decay").flatten();
      CHECK(decay[0].item<double>() == Approx(-7));
      CHECK(decay[95].item<double>() == Approx(-4));
      CHECK(decay[127].item<double>() == Approx(-1));
      CHECK(matrix("blocks.0.att.time_decay").flatten()[63].item<double>() == Approx(-4));
    }
    // Half of the first block's heads find the same everywhere: receptance and key are 1 and a bit.
    const at::Tensor first_key = matrix("blocks.0.att.key.weight");
    const at::Tensor gathering = matrix("blocks.0.att.receptance.weight");
    CHECK(gathering.narrow(0, 64, 64).equal(first_key.narrow(0, 64, 64)));
    CHECK(
        (gathering.narrow(0, 0, 64) - 10 * first_key.narrow(0, 0, 64)).abs().max().item<double>() <
        1e-6);
    CHECK(first_key.select(1, 127).equal(
        at::cat({at::zeros({64}, at::kDouble), at::full({64}, 0.25, at::kDouble)})));
    const at::Tensor embedding = matrix("emb.weight");
    const at::Tensor head = matrix("head.weight");
    CHECK((head.norm(2, 1) - 0.3).abs().max().item<double>() < 1e-6);
    CHECK((head / 0.3 - embedding / embedding.norm(2, 1, true)).abs().max().item<double>() < 1e-5);
    if (std::string(arch) != "v5.0") {
      const at::Tensor gate = matrix("blocks.1.att.gate.weight");
      CHECK(is_unit(gate, 0.3));
      CHECK((gate.select(1, 127) - 0.25).abs().max().item<double>() == 0);
    }
  }
  for (const char* arch : {"v4", "v7", "x058", "x059"}) {
    const Status refused =
        press::initial_model(three_blocks(arch), {.seed = 1, .mimetic = true}).status();
    CHECK(refused.code() == Code::Usage);
    CHECK_THAT(refused.message(), Catch::Contains("model.mimetic") && Catch::Contains(arch));
  }
}
