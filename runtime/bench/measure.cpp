#include "runtime/bench/measure.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace rwkv::edge {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kWarmUp = 4;  // tokens

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

Status decode_each(Evaluator& evaluator, State& state, std::span<const int32_t> tokens,
                   Decoding& decoding) {
  const Weights& weights = evaluator.model().weights();
  std::vector<float> logits(evaluator.model().config().n_vocab);
  const uint64_t touched_before = weights.traffic().touched();
  const size_t n_warm_up = std::min(kWarmUp, std::max<size_t>(1, tokens.size()) - 1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto start = Clock::now();
    RWKV_TRY(evaluator.forward(tokens.subspan(i, 1), state, Logits::Last, logits));
    if (i >= n_warm_up) {
      decoding.rates.push_back(1.0 / seconds_since(start));
    }
  }
  decoding.touched += weights.traffic().touched() - touched_before;
  decoding.n_tokens += tokens.size();
  return {};
}

BenchSubject::BenchSubject(std::shared_ptr<const Model> model, unsigned n_threads)
    : evaluator_(model, {n_threads, 32}),
      state_(model->empty_state()),
      logits_(model->config().n_vocab) {}

std::vector<int32_t> BenchSubject::next_tokens(size_t n) {
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    token = static_cast<int32_t>((random_ >> 33) % evaluator_.model().config().n_vocab);
  }
  return tokens;
}

Status BenchSubject::decode(size_t n) {
  const auto tokens = next_tokens(kWarmUp + n);
  n_evaluated_ += tokens.size();
  return decode_each(evaluator_, state_, tokens, decoding_);
}

std::vector<double> BenchSubject::take_rates() {
  return std::exchange(decoding_.rates, {});
}

Status BenchSubject::prefill(size_t n, std::vector<double>& rates) {
  const auto tokens = next_tokens(n);
  state_.reset();
  n_evaluated_ += n;
  const auto start = Clock::now();
  RWKV_TRY(evaluator_.forward(tokens, state_, Logits::Last, logits_));
  rates.push_back(static_cast<double>(n) / seconds_since(start));
  return {};
}

uint64_t BenchSubject::bytes_per_token() const {
  const uint64_t weights = decoding_.n_tokens == 0 ? 0 : decoding_.touched / decoding_.n_tokens;
  return weights + 2 * evaluator_.model().config().state_floats() * sizeof(float);
}

}  // namespace rwkv::edge
