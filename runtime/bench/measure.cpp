#include "runtime/bench/measure.h"

#include <algorithm>
#include <chrono>

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

Status BenchSubject::feed(std::span<const int32_t> tokens) {
  n_evaluated_ += tokens.size();
  return evaluator_.forward(tokens, state_, Logits::Last, logits_);
}

Status BenchSubject::decode(size_t n, std::vector<double>& rates) {
  const auto tokens = next_tokens(kWarmUp + n);
  const uint64_t touched_before = evaluator_.touched_bytes();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto start = Clock::now();
    RWKV_TRY(feed(std::span(tokens).subspan(i, 1)));
    if (i >= kWarmUp) {
      rates.push_back(1.0 / seconds_since(start));
    }
  }
  decode_touched_ += evaluator_.touched_bytes() - touched_before;
  n_decoded_ += tokens.size();
  return {};
}

Status BenchSubject::prefill(size_t n, std::vector<double>& rates) {
  const auto tokens = next_tokens(n);
  state_.reset();
  const auto start = Clock::now();
  RWKV_TRY(feed(tokens));
  rates.push_back(static_cast<double>(n) / seconds_since(start));
  return {};
}

uint64_t BenchSubject::bytes_per_token() const {
  const Model& model = evaluator_.model();
  const uint64_t on_demand = n_decoded_ == 0 ? 0 : decode_touched_ / n_decoded_;
  return model.weights().always_touched_bytes() + on_demand +
         2 * model.config().state_floats() * sizeof(float);
}

}  // namespace rwkv::edge
