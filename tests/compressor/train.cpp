// The parts of a training: AdamW, learning rates, token data.
#include <cmath>
#include <filesystem>
#include <map>
#include <numbers>

#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/adamw.h"
#include "compressor/train/token_data.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

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

TEST_CASE("Embedding and head can learn more slowly than the rest", "[train]") {
  press::AdamWOptions options;
  options.vocabulary_rate = 0.25;
  options.weight_decay = 0.1;
  const std::vector<Parameter> parameters = {{"blocks.0.att.key.weight", noise_tensor(1, {6, 4})},
                                             {"emb.weight", noise_tensor(1, {6, 4})},
                                             {"head.weight", noise_tensor(1, {6, 4})}};
  const at::Tensor start = parameters[0].values.clone();
  press::AdamW optimizer(parameters, options);
  for (const Parameter& parameter : parameters) {
    parameter.values.mutable_grad() = noise_tensor(2, {6, 4});
  }
  optimizer.step(0.01, 1.0, 1);
  const at::Tensor moved = parameters[0].values - start;
  CHECK(moved.abs().min().item<float>() > 0);
  for (const size_t i : {1, 2}) {
    CHECK((parameters[i].values - start).allclose(0.25 * moved, 1e-3, 1e-7));
  }
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

TEST_CASE("The learning rate begins again where codes settle", "[train]") {
  press::TrainOptions options;
  options.steps = 200;
  options.warmup = 10;
  options.learning_rate = 1.0;
  options.final_rate = 0.2;
  options.settle = 0.45;
  CHECK(steps_before_settling(options) == 110);
  CHECK(learning_rate_at(options, 60) == Approx(0.6));
  CHECK(learning_rate_at(options, 110) == Approx(0.2));
  CHECK(learning_rate_at(options, 155) == Approx(0.35));
  CHECK(learning_rate_at(options, 200) == Approx(0.2));
  options.settle = 1;
  CHECK(steps_before_settling(options) == 0);
  CHECK(learning_rate_at(options, 100) == Approx(0.35));
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

TEST_CASE("Sequences can start after a token only", "[train]") {
  const ScratchFolder scratch;
  // Starts that four tokens follow: the beginning, 3, 4, 9; after the last 7 there is too little.
  write_u16(scratch.file("a.u16"), {1, 2, 7, 7, 3, 4, 5, 6, 7, 8, 9, 10, 11, 7, 12, 13});
  TokenData data = open_data({scratch.file("a.u16")}, 4, scratch.path().string());
  REQUIRE_OK(data.start_after(7));
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
  const Status none = data.start_after(12);
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
