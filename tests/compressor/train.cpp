// The parts of a training: AdamW, learning rates, initial models, token data.
#include <ATen/ATen.h>

// glog, which LibTorch's headers bring along, has a CHECK of its own, which aborts.
#undef CHECK
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <map>
#include <numbers>

#include "compressor/checkpoint/open.h"
#include "compressor/model/named_tensors.h"
#include "compressor/train/adamw.h"
#include "compressor/train/initial_values.h"
#include "compressor/train/token_data.h"
#include "tests/compressor/train_testing.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;
using press::Parameter, press::TokenData;
namespace fs = std::filesystem;

namespace {

at::Tensor noise_tensor(uint64_t seed, const std::vector<int64_t>& shape) {
  at::Tensor values = at::empty(shape, at::kFloat);
  float* const data = values.data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    data[i] = noise(seed, static_cast<uint64_t>(i));
  }
  return values;
}

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

std::vector<int64_t> rows_of(const press::Batch& batch) {
  const at::Tensor both = at::cat({batch.inputs.flatten(), batch.targets});
  return {both.data_ptr<int64_t>(), both.data_ptr<int64_t>() + both.numel()};
}

TokenData open_data(const std::vector<std::string>& paths, int64_t length,
                    const std::string& folder, uint64_t n_vocab = 256) {
  auto data = TokenData::open(paths, Vocabulary{}, n_vocab, length, folder);
  REQUIRE_OK(data.status());
  return data.take();
}

press::Batch sample(const TokenData& data, uint64_t first, int64_t n, uint64_t seed) {
  auto batch = data.sample(first, n, seed);
  REQUIRE_OK(batch.status());
  return batch.take();
}

void write_u16(const std::string& path, const std::vector<uint16_t>& ids) {
  write_bytes(path, std::as_bytes(std::span(ids)));
}

std::string only_file(const fs::path& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    found.push_back(entry.path().string());
  }
  REQUIRE(found.size() == 1);
  return found[0];
}

}  // namespace

TEST_CASE("AdamW does what its formula says", "[train]") {
  press::AdamWOptions options;
  options.beta1 = 0.8;
  options.beta2 = 0.95;
  options.epsilon = 1e-3;
  options.weight_decay = 0.3;
  constexpr double kRate = 0.02;
  constexpr double kClip = 0.5;
  const std::vector<Parameter> parameters = {{"matrix", noise_tensor(1, {7, 5})},
                                             {"vector", noise_tensor(2, {11})},
                                             {"still", noise_tensor(3, {4, 4})}};
  const at::Tensor still = parameters[2].values.clone();
  press::AdamW optimizer(parameters, options);
  std::vector<std::vector<double>> x;
  std::vector<std::vector<double>> mean(2);
  std::vector<std::vector<double>> square(2);
  for (size_t p = 0; p < 2; ++p) {
    const float* const start = parameters[p].values.data_ptr<float>();
    x.emplace_back(start, start + parameters[p].values.numel());
    mean[p].resize(x[p].size());
    square[p].resize(x[p].size());
  }
  for (uint64_t step = 1; step <= 5; ++step) {
    double sum = 0;
    for (size_t p = 0; p < 2; ++p) {
      const at::Tensor gradient = noise_tensor(10 * step + p, parameters[p].values.sizes().vec());
      parameters[p].values.mutable_grad() = gradient;
      const double decay = p == 0 ? options.weight_decay : 0.0;
      for (size_t i = 0; i < x[p].size(); ++i) {
        const double raw = gradient.data_ptr<float>()[i];
        sum += raw * raw;
        const double g = raw * kClip;
        mean[p][i] = options.beta1 * mean[p][i] + (1 - options.beta1) * g;
        square[p][i] = options.beta2 * square[p][i] + (1 - options.beta2) * g * g;
        const auto n = static_cast<double>(step);
        const double m = mean[p][i] / (1 - std::pow(options.beta1, n));
        const double s = square[p][i] / (1 - std::pow(options.beta2, n));
        x[p][i] -= kRate * (m / (std::sqrt(s) + options.epsilon) + decay * x[p][i]);
      }
    }
    CHECK(optimizer.gradient_norm() == Approx(std::sqrt(sum)).epsilon(1e-6));
    optimizer.step(kRate, kClip, step);
    for (size_t p = 0; p < 2; ++p) {
      CHECK_FALSE(parameters[p].values.grad().defined());
      double worst = 0;
      for (size_t i = 0; i < x[p].size(); ++i) {
        worst = std::max(worst, std::fabs(parameters[p].values.data_ptr<float>()[i] - x[p][i]));
      }
      CAPTURE(step, p);
      CHECK(worst < 1e-6);
    }
  }
  CHECK(parameters[2].values.equal(still));
  CHECK(optimizer.gradient_norm() == 0);
}

TEST_CASE("The learning rate warms up and follows half a cosine", "[train]") {
  press::TrainOptions options;
  options.steps = 110;
  options.warmup = 10;
  options.learning_rate = 1.0;
  options.final_rate = 0.2;
  CHECK(learning_rate_at(options, 1) == Approx(0.1));
  CHECK(learning_rate_at(options, 5) == Approx(0.5));
  CHECK(learning_rate_at(options, 10) == Approx(1.0));
  CHECK(learning_rate_at(options, 60) == Approx(0.6));
  CHECK(learning_rate_at(options, 35) ==
        Approx(0.2 + 0.8 * 0.5 * (1 + std::cos(std::numbers::pi / 4))));
  CHECK(learning_rate_at(options, 110) == Approx(0.2));
  options.warmup = 0;
  CHECK(learning_rate_at(options, 110) == Approx(0.2));
  CHECK(learning_rate_at(options, 1) < 1.0);
  options.warmup = 200;  // more than there are steps
  CHECK(learning_rate_at(options, 110) == Approx(0.55));
}

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

TEST_CASE("A text becomes its tokenizer's ids, once", "[train]") {
  const ScratchFolder scratch;
  const std::string cache = scratch.file("cache");
  fs::create_directory(cache);
  // More than one piece of 16 MiB, with tokens that must not be cut.
  std::string text;
  for (size_t i = 0; text.size() < (size_t{17} << 20); ++i) {
    text += fmt::format("line {}{}", i, i % 5 == 0 ? "\n\n" : i % 7 == 0 ? "\n  " : "\n");
  }
  write_text(scratch.file("text.txt"), text);
  Vocabulary vocabulary;
  vocabulary.kind = TokenizerKind::World;
  vocabulary.tokens = {"", "line ", "\n", "\n\n", "\n ", "\n  ", " "};
  for (char digit = '0'; digit <= '9'; ++digit) {
    vocabulary.tokens.emplace_back(1, digit);
  }
  for (const char* word : {"10", "123", "77", "li", "ne", "l", "i", "n", "e"}) {
    vocabulary.tokens.emplace_back(word);
  }
  constexpr int64_t kLength = 4096;
  const auto open = [&] {
    auto data = TokenData::open({scratch.file("text.txt")}, vocabulary, 256, kLength, cache);
    REQUIRE_OK(data.status());
    return data.take();
  };
  const TokenData data = open();
  auto tokenizer = make_tokenizer(vocabulary);
  REQUIRE_OK(tokenizer.status());
  std::vector<int32_t> ids;
  REQUIRE_OK(tokenizer.value()->encode(text, ids));
  REQUIRE(data.n_tokens() == ids.size());
  REQUIRE(data.n_pieces() == (ids.size() - 1) / kLength);
  const auto n_pieces = static_cast<int64_t>(data.n_pieces());
  auto all = data.piece(0, n_pieces);
  REQUIRE_OK(all.status());
  const at::Tensor expected = at::tensor(ids).to(at::kLong);
  CHECK(all.value().inputs.flatten().equal(expected.narrow(0, 0, n_pieces * kLength)));
  CHECK(all.value().targets.equal(expected.narrow(0, 1, n_pieces * kLength)));

  const std::string file = only_file(cache);
  const auto written = fs::last_write_time(file);
  open();
  CHECK(only_file(cache) == file);
  CHECK(fs::last_write_time(file) == written);
  // Another text at the same place, or another vocabulary, is not taken for the old one.
  write_text(scratch.file("text.txt"), text + "line 1\n");
  open();
  CHECK(std::distance(fs::directory_iterator(cache), {}) == 2);
  vocabulary.tokens.back() = "z";
  vocabulary.tokens.emplace_back("e");
  open();
  CHECK(std::distance(fs::directory_iterator(cache), {}) == 3);
}

TEST_CASE("Sequences can start behind a token only", "[train]") {
  const ScratchFolder scratch;
  // Starts that four tokens follow: the beginning, 3, 4, 9; behind the last 7 there is too little.
  write_u16(scratch.file("a.u16"), {1, 2, 7, 7, 3, 4, 5, 6, 7, 8, 9, 10, 11, 7, 12, 13});
  TokenData data = open_data({scratch.file("a.u16")}, 4, scratch.path().string());
  REQUIRE_OK(data.start_behind(7));
  std::map<int64_t, int> starts;
  const press::Batch batch = sample(data, 0, 400, 1);
  for (int64_t i = 0; i < 400; ++i) {
    ++starts[batch.inputs[i][0].item<int64_t>()];
  }
  REQUIRE(starts.size() == 4);
  for (const int64_t first : {1, 7, 3, 8}) {
    CAPTURE(first);
    CHECK(starts[first] > 15);
  }
  const Status none = data.start_behind(12);
  CHECK(none.code() == Code::Usage);
  CHECK_THAT(none.message(), Contains("a.u16: no token 12"));
}

TEST_CASE("Sequences are a pure function of seed and index", "[train]") {
  const ScratchFolder scratch;
  std::vector<uint16_t> ids(20);
  std::vector<uint16_t> more(18);
  for (size_t i = 0; i < 20; ++i) {
    ids[i] = static_cast<uint16_t>(i);
    more[std::min<size_t>(i, 17)] = static_cast<uint16_t>(100 + i);
  }
  write_u16(scratch.file("a.u16"), ids);
  write_u16(scratch.file("b.u16"), more);
  const TokenData data =
      open_data({scratch.file("a.u16"), scratch.file("b.u16")}, 16, scratch.path().string());
  CHECK(data.n_tokens() == 38);
  const press::Batch whole = sample(data, 5, 400, 3);
  const press::Batch first = sample(data, 5, 100, 3);
  const press::Batch second = sample(data, 105, 300, 3);
  CHECK(at::cat({first.inputs, second.inputs}).equal(whole.inputs));
  CHECK(at::cat({first.targets, second.targets}).equal(whole.targets));
  CHECK(rows_of(sample(data, 5, 400, 4)) != rows_of(whole));
  // Every start there is, about equally often: 4 in one file, 2 in the other.
  std::map<int64_t, int> starts;
  for (int64_t i = 0; i < 400; ++i) {
    const at::Tensor row = whole.inputs[i];
    CHECK(row.narrow(0, 1, 15).equal(whole.targets.narrow(0, i * 16, 15)));
    ++starts[row[0].item<int64_t>()];
  }
  REQUIRE(starts.size() == 6);
  for (const int64_t start : {0, 1, 2, 3, 100, 101}) {
    CAPTURE(start);
    CHECK(starts[start] > 40);
    CHECK(starts[start] < 100);
  }
}

TEST_CASE("Token data that cannot be learnt from is refused", "[train]") {
  const ScratchFolder scratch;
  const std::string folder = scratch.path().string();
  const auto open = [&](const std::string& name, int64_t length,
                        const std::optional<Vocabulary>& vocabulary = Vocabulary{}) {
    return TokenData::open({scratch.file(name)}, vocabulary, 256, length, folder).status();
  };
  write_text(scratch.file("short.txt"), "ten bytes.");
  const Status too_short = open("short.txt", 10);
  CHECK(too_short.code() == Code::Usage);
  CHECK_THAT(too_short.message(), Contains("has 10 tokens") && Contains("11"));
  REQUIRE_OK(open("short.txt", 9));
  const Status no_vocabulary = open("short.txt", 4, std::nullopt);
  CHECK(no_vocabulary.code() == Code::Usage);
  CHECK_THAT(no_vocabulary.message(), Contains("--vocab"));
  CHECK(TokenData::open({}, Vocabulary{}, 256, 4, folder).status().code() == Code::Usage);
  const Status missing = open("missing.txt", 4);
  CHECK(missing.code() == Code::BadInput);
  CHECK_THAT(missing.message(), Contains("missing.txt"));
  write_text(scratch.file("odd.u16"), "three");
  CHECK(open("odd.u16", 2).code() == Code::BadInput);
  const Status no_cache =
      TokenData::open({scratch.file("short.txt")}, Vocabulary{}, 256, 4, scratch.file("no/such"))
          .status();
  CHECK(no_cache.code() == Code::Failed);

  // An id that the model does not have, when it is met at the latest.
  write_u16(scratch.file("foreign.u16"), {1, 2, 300, 4, 5});
  auto foreign = TokenData::open({scratch.file("foreign.u16")}, std::nullopt, 256, 4, folder);
  const Status status = foreign.ok() ? foreign.value().sample(0, 1, 0).status() : foreign.status();
  CHECK(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Contains("foreign.u16") && Contains("300") && Contains("255"));
  const std::vector<uint32_t> wide_ids = {1, 255, 3, 4, 5};
  write_bytes(scratch.file("wide.u32"), std::as_bytes(std::span(wide_ids)));
  const TokenData wide = open_data({scratch.file("wide.u32")}, 4, folder);
  CHECK(sample(wide, 0, 1, 0).targets.equal(at::tensor({255, 3, 4, 5}, at::kLong)));
}
