// The memory of a pass: where its buffers lie, that it is counted right and checked.
#include "runtime/model/scratch.h"

#include <array>

#include "runtime/model/block.h"
#include "runtime/model/products.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

TEST_CASE("Buffers lie in one piece, each on lines of its own", "[scratch]") {
  const auto model = open_tiny({.codec = Codec::I8Row, .sign_predictor = true});
  for (const size_t max_tokens : std::array<size_t, 3>{1, 7, 32}) {
    const ScratchSizes sizes = {3, max_tokens, model->needs()};
    const Scratch scratch(model->config(), sizes);
    std::vector<std::span<const std::byte>> parts;
    const auto note = [&](auto span) { parts.push_back(std::as_bytes(span)); };
    note(scratch.x), note(scratch.normed), note(scratch.out), note(scratch.arena);
    note(scratch.marks), note(scratch.bias), note(scratch.products), note(scratch.jobs);
    note(scratch.integers), note(scratch.planes), note(scratch.steps), note(scratch.sums);
    note(scratch.group_sums), note(scratch.ids), note(scratch.numbers), note(scratch.row_places);
    size_t total = 0;
    const std::byte* end = parts.front().data();
    for (const auto part : parts) {
      CHECK(reinterpret_cast<uintptr_t>(part.data()) % kCacheLine == 0);
      CHECK(part.data() >= end);
      end = part.data() + part.size();
      total += part.size();
    }
    CHECK(total > 0);
    CHECK(static_cast<uint64_t>(end - parts.front().data()) <=
          Scratch::bytes(model->config(), sizes));
    CHECK(scratch.numbers[kMaxGather - 1] == kMaxGather - 1);
    CHECK(std::all_of(scratch.arena.begin(), scratch.arena.end(), [](float v) { return v == 0; }));
  }
}

TEST_CASE("What is taken beyond the end of an arena is noticed", "[scratch]") {
  std::vector<float> memory(10);
  Arena arena(memory);
  CHECK(arena.take(4) == memory.data());
  const size_t used = arena.used();
  CHECK(arena.take(6) == memory.data() + 4);
  CHECK(arena.status().ok());
  arena.rewind(used);
  CHECK(arena.take(3) == memory.data() + 4);
  CHECK(arena.take(4) == nullptr);
  CHECK(arena.status().code() == Code::Failed);
  CHECK_THAT(arena.status().message(), Catch::Contains("10 floats") && Catch::Contains("11"));
  // Even when it was given back since: what was taken is not there.
  arena.rewind(0);
  CHECK_FALSE(arena.status().ok());
  Arena counter;
  CHECK(counter.take(5) == nullptr);
  CHECK(counter.take(2) == nullptr);
  counter.rewind(0);
  counter.take(3);
  CHECK(counter.most() == 7);
}

// Every version, with predictors.
TEST_CASE("A pass whose memory was counted too small fails and reads nothing beyond it",
          "[scratch]") {
  for (test::TinyModelOptions options : test::all_tiny_models()) {
    options.codec = Codec::I8Row;
    options.sign_predictor = options.mlp_predictor = true;
    const auto model = open_tiny(options);
    INFO(version_label(model->config()));
    const auto status_with = [&](PassNeeds needs) {
      Pass pass(model->config(), *kernels().value(), {1, 1, needs});
      pass.n_tokens = 1;
      const int32_t token = 7;
      pass.tokens = {&token, 1};
      State state = model->empty_state();
      pass.state = state.layer(1);
      std::vector<float> x(model->config().n_embd, 0.5f);
      std::vector<float> out(x.size());
      const auto time_mix = load_time_mix(model->weights(), "blocks.1.");
      const auto channel_mix = load_channel_mix(model->weights(), "blocks.1.");
      const Status status = time_mix.value()->forward(pass, x.data(), out.data());
      return status.ok() ? channel_mix.value()->forward(pass, x.data(), out.data()) : status;
    };
    const PassNeeds needs = model->needs();
    CHECK(status_with(needs).ok());
    for (const auto member : {&PassNeeds::arena, &PassNeeds::n_products, &PassNeeds::integers}) {
      PassNeeds fewer = needs;
      fewer.*member = 1;
      const Status status = status_with(fewer);
      CHECK(status.code() == Code::Failed);
      CHECK_THAT(status.message(), Catch::Contains("scratch memory"));
    }
    // Counted exactly, where no factor pair is applied by itself.
    if (model->config().low_rank == LowRankForm::None) {
      PassNeeds fewer = needs;
      --fewer.arena;
      CHECK(status_with(fewer).code() == Code::Failed);
    }
  }
}

TEST_CASE("Any number of products runs together, each as it does alone", "[scratch]") {
  const auto model = open_tiny({.version = Version::V7, .codec = Codec::I8Row});
  const Weights& weights = model->weights();
  const MatrixView key = weights.matrix("blocks.0.att.key.weight").value();
  const MatrixView half = weights.matrix("blocks.0.att.w1").value();
  PassNeeds needs = model->needs();
  needs.n_products = 40;
  needs.integers = 2 * padded_cols(key.cols);  // of the two inputs that there are
  const unsigned n_threads = GENERATE(1u, 3u);
  Pass pass(model->config(), *kernels().value(), {n_threads, 2, needs});
  pass.n_tokens = 2;
  std::vector<float> x(4 * key.cols);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>((i * 29 + 7) % 23) - 11.0f;
  }
  std::vector<std::vector<float>> together(40);
  std::vector<Product> products;
  for (size_t i = 0; i < together.size(); ++i) {
    const MatrixView& w = i % 5 == 4 ? half : key;
    together[i].resize(2 * w.rows);
    products.push_back({w, x.data() + i % 2 * 2 * key.cols, together[i].data()});
  }
  REQUIRE_OK(matmul_all(pass, products));
  for (const auto& [w, input, y] : products) {
    std::vector<float> alone(2 * w.rows);
    REQUIRE_OK(matmul(pass, w, input, alone.data()));
    CHECK(bits_of(alone) == bits_of({y, alone.size()}));
  }
  products.push_back(products.front());
  CHECK(matmul_all(pass, products).code() == Code::Failed);
}

}  // namespace
}  // namespace rwkv::edge
