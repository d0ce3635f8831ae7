// Speeds of streamed weights, predicted from the figures of a device: near the law, and the least
// memory that reaches a speed.
#include <algorithm>
#include <chrono>

#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

using Catch::Contains;

constexpr double kReadSpeed = 1e6;

struct Trial {
  explicit Trial(double compute_seconds) : path(test::write_tiny_model(folder, model())) {
    memory.mode = MemoryMode::Streamed;
    memory.max_chunk = 1;
    memory.stream.piece_bytes = 2000;
    memory.stream.device = {kReadSpeed, compute_seconds, 1};
  }
  static test::TinyModelOptions model() {
    test::TinyModelOptions options = {.version = Version::V7, .codec = Codec::I8Row};
    options.n_layer = 8;
    return options;
  }
  std::shared_ptr<const Model> open() const {
    auto opened = Model::open(path, memory);
    REQUIRE_OK(opened.status());
    return opened.take();
  }
  Status refusal() const { return Model::open(path, memory).status(); }

  test::ScratchFolder folder;
  std::string path;
  MemoryOptions memory;
};

uint64_t streamed_bytes(const Model& model) {
  uint64_t bytes = 0;
  for (const PlacedPiece& piece : model.weights().residency().pieces) {
    bytes += piece.stays ? 0 : piece.source.n_bytes;
  }
  return bytes;
}

TEST_CASE("A predicted token takes as long as reading or computing, whatever is longer",
          "[streamed]") {
  for (const double compute : {0.01, 0.1, 0.3, 2.0}) {
    Trial trial(compute);
    const uint64_t least = trial.open()->weights().account().total();
    for (const uint64_t more : {0, 50'000, 150'000}) {
      trial.memory.limit = least + more;
      const auto model = trial.open();
      const double read = static_cast<double>(streamed_bytes(*model)) / kReadSpeed;
      const double predicted = model->weights().residency().seconds_per_token;
      INFO("computing " << compute << ", reading " << read);
      CHECK(predicted >= 0.999 * std::max(read, compute));
      CHECK(predicted <= 1.1 * std::max(read, compute));
    }
    trial.memory.limit = uint64_t{1} << 30;
    CHECK(trial.open()->weights().residency().seconds_per_token == Approx(compute));
  }
}

TEST_CASE("One piece cannot be read while it is used, as is predicted", "[streamed]") {
  Trial trial(0.2);
  trial.memory.stream.piece_bytes = 1;  // as small as can be: eight rows
  trial.memory.stream.slots = 1;
  const auto two_parts = [&] {
    const auto model = trial.open();
    return std::pair(model->weights().residency().seconds_per_token,
                     static_cast<double>(streamed_bytes(*model)) / kReadSpeed);
  };
  const auto [one, read] = two_parts();
  CHECK(one > 1.1 * std::max(0.2, read));
  trial.memory.stream.slots = 4;
  CHECK(two_parts().first < one);
}

TEST_CASE("What is predicted for a slow storage is what it takes", "[streamed]") {
  Trial trial(0.002);
  trial.memory.stream.bytes_per_second = static_cast<uint64_t>(kReadSpeed);
  const auto model = trial.open();
  Evaluator evaluator(model, {});
  State state = model->empty_state();
  std::vector<float> logits(model->config().n_vocab);
  const auto feed = [&](int32_t token) {
    REQUIRE_OK(evaluator.forward({&token, 1}, state, Logits::Last, logits));
  };
  feed(1);
  const auto start = std::chrono::steady_clock::now();
  for (int32_t token = 2; token < 5; ++token) {
    feed(token);
  }
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 3;
  const double predicted = model->weights().residency().seconds_per_token;
  CHECK(took > 0.9 * predicted);
  CHECK(took < 2 * predicted);  // the machine may have other work
}

TEST_CASE("A speed takes the least memory that reaches it", "[streamed]") {
  Trial trial(0.01);
  trial.memory.mode.reset();
  uint64_t bytes_before = 0;
  for (const double speed : {3.0, 5.0, 10.0, 30.0, 99.0}) {
    INFO(speed << " tokens/s");
    trial.memory.stream.tokens_per_second = speed;
    const auto model = trial.open();
    const Residency& residency = model->weights().residency();
    CHECK(residency.mode == MemoryMode::Streamed);
    CHECK(1 / residency.seconds_per_token >= speed);
    CHECK(residency.account.total() > bytes_before);
    bytes_before = residency.account.total();
    // Within that much it is reached, and within a little less it is refused.
    trial.memory.limit = bytes_before + 3 * 8192;
    CHECK(1 / trial.open()->weights().residency().seconds_per_token >= speed);
    trial.memory.limit = bytes_before - bytes_before / 20;
    const Status status = trial.refusal();
    CHECK(status.code() == Code::Usage);
    trial.memory.limit = 0;
  }
}

TEST_CASE("A speed that cannot be reached is refused with what can be", "[streamed]") {
  Trial trial(0.01);
  trial.memory.stream.tokens_per_second = 101;
  CHECK(trial.refusal().code() == Code::Usage);
  CHECK_THAT(trial.refusal().message(), Contains("computing alone allows 100.00"));
  trial.memory.stream.tokens_per_second = 50;
  trial.memory.limit = 350'000;
  CHECK_THAT(trial.refusal().message(), Contains("cannot be reached within 350000 bytes") &&
                                            Contains("which allow") && Contains("they need about"));
  trial.memory.n_threads = 3;
  CHECK_THAT(trial.refusal().message(), Contains("rwkv-edge profile -t 3"));
  trial.memory.mode = MemoryMode::Sparse;
  CHECK_THAT(trial.refusal().message(), Contains("streamed"));
}

}  // namespace
}  // namespace rwkv::edge
