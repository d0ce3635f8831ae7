// The forward pass gives the same bits however its work is divided: into chunks, into threads.
#include "runtime/model/evaluator.h"

#include <cmath>

#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

struct Pass {
  std::vector<uint32_t> logits;
  std::vector<uint32_t> state;
  bool operator==(const Pass&) const = default;
};

/// Logits of every token, the prompt fed in calls of at most `step` tokens.
Pass run(const std::shared_ptr<const Model>& model, const EvaluatorOptions& options, size_t step) {
  const std::vector<int32_t> tokens = prompt_of(75);
  const size_t n_vocab = model->config().n_vocab;
  Evaluator evaluator(model, options);
  State state = model->empty_state();
  std::vector<float> logits(tokens.size() * n_vocab);
  for (size_t at = 0; at < tokens.size(); at += step) {
    const size_t n = std::min(step, tokens.size() - at);
    REQUIRE_OK(evaluator.forward(std::span(tokens).subspan(at, n), state, Logits::All,
                                 std::span(logits).subspan(at * n_vocab, n * n_vocab)));
  }
  for (const float logit : logits) {
    REQUIRE(std::isfinite(logit));
  }
  return {bits_of(logits), bits_of(state.values())};
}

TEST_CASE("Evaluator: many tokens, one by one, by any thread: the same bits", "[evaluator]") {
  for (test::TinyModelOptions options : test::all_tiny_models()) {
    for (const CodecTraits& codec : codec_list()) {
      if (codec.codec == Codec::SignRow) {
        continue;  // no model is made of one bit per number
      }
      options.codec = codec.codec;
      const auto model = open_tiny(options);
      INFO(version_label(model->config()) << " in " << codec.name);
      const Pass one_by_one = run(model, {.n_threads = 1}, 1);
      CHECK((run(model, {.n_threads = 1}, 75) == one_by_one));
      CHECK((run(model, {.n_threads = 2}, 1) == one_by_one));
      CHECK((run(model, {.n_threads = 3, .max_chunk = 7}, 50) == one_by_one));
    }
  }
}

TEST_CASE("Evaluator: the last logits alone are those of all", "[evaluator]") {
  const auto model = open_tiny({.version = Version::V6});
  const size_t n_vocab = model->config().n_vocab;
  const std::vector<int32_t> tokens = prompt_of(40);
  Evaluator evaluator(model, {.n_threads = 1, .max_chunk = 16});
  State state = model->empty_state();
  std::vector<float> all(tokens.size() * n_vocab);
  REQUIRE_OK(evaluator.forward(tokens, state, Logits::All, all));
  const auto after_all = bits_of(state.values());
  state.reset();
  std::vector<float> last(n_vocab);
  REQUIRE_OK(evaluator.forward(tokens, state, Logits::Last, last));
  CHECK(bits_of(last) == bits_of(std::span(all).last(n_vocab)));
  CHECK(bits_of(state.values()) == after_all);
  state.reset();
  REQUIRE_OK(evaluator.forward(tokens, state, Logits::None, {}));
  CHECK(bits_of(state.values()) == after_all);
}

TEST_CASE("Evaluator refuses unknown ids and wrong buffers, untouched", "[evaluator]") {
  const auto model = open_tiny();
  const auto n_vocab = static_cast<int32_t>(model->config().n_vocab);
  Evaluator evaluator(model, {});
  State state = model->empty_state();
  const auto before = bits_of(state.values());
  std::vector<float> logits(static_cast<size_t>(n_vocab));
  for (const int32_t bad : {-1, n_vocab, INT32_MAX, INT32_MIN}) {
    const Status status =
        evaluator.forward(std::vector<int32_t>{1, 2, bad}, state, Logits::Last, logits);
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains(std::to_string(bad)));
  }
  const std::vector<int32_t> tokens = {1, 2};
  CHECK(evaluator.forward(tokens, state, Logits::All, logits).code() == Code::Usage);
  CHECK(evaluator.forward(tokens, state, Logits::None, logits).code() == Code::Usage);
  CHECK(evaluator.forward(tokens, state, Logits::Last, {}).code() == Code::Usage);
  CHECK(bits_of(state.values()) == before);
  CHECK(evaluator.forward({}, state, Logits::Last, {}).ok());
}

}  // namespace
}  // namespace rwkv::edge
