#include "runtime/model/cluster_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

namespace rwkv::edge {
namespace {

// Integers that were packed as floats; BadInput for anything else.
Result<std::vector<uint32_t>> whole_numbers(std::span<const float> values, const char* name,
                                            uint64_t below) {
  std::vector<uint32_t> numbers;
  numbers.reserve(values.size() + 1);
  for (const float value : values) {
    if (!(value >= 0.0f && static_cast<double>(value) < static_cast<double>(below)) ||
        std::trunc(value) != value) {
      return bad_input("tensor '{}' has {}; expected integers below {}", name, value, below);
    }
    numbers.push_back(static_cast<uint32_t>(value));
  }
  return numbers;
}

Status check_permutation(const std::vector<uint32_t>& tokens) {
  std::vector<bool> seen(tokens.size());
  for (const uint32_t token : tokens) {
    if (seen[token]) {
      return bad_input("tensor 'head.tokens' has token {} twice", token);
    }
    seen[token] = true;
  }
  return {};
}

// log(sum(exp(values))) of values that come one by one or many at once.
class LogSumExp {
 public:
  explicit LogSumExp(const Elementwise& elementwise) : elementwise_(elementwise) {}
  void add(float value) {
    batch_[n_++] = value;
    if (n_ == batch_.size()) {
      add(std::span(batch_).first(std::exchange(n_, 0)));
    }
  }
  void add(std::span<const float> values) {
    const float most = std::max(most_, *std::max_element(values.begin(), values.end()));
    sum_ *= std::exp(static_cast<double>(most_) - static_cast<double>(most));
    sum_ += elementwise_.sum_of_exp(values.data(), most, values.size());
    most_ = most;
  }
  double value() {
    if (n_ > 0) {
      add(std::span(batch_).first(std::exchange(n_, 0)));
    }
    return static_cast<double>(most_) + std::log(sum_);
  }

 private:
  const Elementwise& elementwise_;
  float most_ = std::numeric_limits<float>::lowest();
  double sum_ = 0.0;
  std::array<float, 256> batch_{};
  size_t n_ = 0;
};

// Replaces the logit of a cluster whose tokens have their own.
constexpr float kHasOwn = std::numeric_limits<float>::infinity();
constexpr size_t kTokensAtATime = 8192;
constexpr size_t kTokensPerLine = kCacheLine / sizeof(uint32_t);

}  // namespace

uint64_t ClusterHead::bytes(const ModelConfig& config) {
  return config.n_cluster == 0 ? 0
                               : (config.n_vocab + 1 + config.n_cluster + 1) * sizeof(uint32_t) +
                                     config.n_vocab * sizeof(uint16_t);
}

Status ClusterHead::load(const Weights& weights) {
  const ModelConfig& config = weights.config();
  RWKV_ASSIGN(weight_, weights.matrix("head.cluster.weight"));
  RWKV_ASSIGN(bias_, weights.vector("head.cluster.bias"));
  RWKV_ASSIGN(rows_, weights.rows("head.weight"));
  RWKV_ASSIGN(const std::vector<float> tokens, weights.read_vector("head.tokens"));
  RWKV_ASSIGN(const std::vector<float> first, weights.read_vector("head.cluster.first"));
  RWKV_ASSIGN(tokens_, whole_numbers(tokens, "head.tokens", config.n_vocab));
  RWKV_TRY(check_permutation(tokens_));
  RWKV_ASSIGN(first_, whole_numbers(first, "head.cluster.first", config.n_vocab));
  first_.push_back(static_cast<uint32_t>(config.n_vocab));
  if (first_[0] != 0 ||
      std::adjacent_find(first_.begin(), first_.end(), std::greater_equal<>()) != first_.end()) {
    return bad_input("tensor 'head.cluster.first' does not begin at 0 and ascend");
  }
  list_clusters();
  p_min_ = static_cast<double>(config.head_p_min);
  k_max_ = std::min<size_t>(config.head_k_max, n_clusters());
  k_min_ = std::min<size_t>(config.head_k_min, k_max_);
  first_always_ = config.first_cluster_always;
  return {};
}

// The cluster of each token.
void ClusterHead::list_clusters() {
  clusters_.resize(tokens_.size());
  for (size_t c = 0; c < n_clusters(); ++c) {
    for (uint32_t row = first_[c]; row < first_[c + 1]; ++row) {
      clusters_[tokens_[row]] = static_cast<uint16_t>(c);
    }
  }
}

// Orders clusters by probability; returns how many of the first ones are selected. cluster_logs()
// becomes log p.
Result<size_t> ClusterHead::select(Pass& pass, const float* z) const {
  const size_t n = n_clusters();
  const std::span<float> logs = pass.cluster_logs();
  const std::span<uint32_t> order = pass.cluster_order();
  RWKV_TRY(matmul(pass, weight_, z, logs.data()));
  for (size_t c = 0; c < n; ++c) {
    logs[c] += bias_[c];
  }
  LogSumExp all(*pass.table.elementwise);
  all.add(logs.first(n));
  const double total = all.value();
  for (size_t c = 0; c < n; ++c) {
    logs[c] = static_cast<float>(static_cast<double>(logs[c]) - total);
  }
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return logs[a] > logs[b] || (logs[a] == logs[b] && a < b);
  });
  size_t n_selected = 0;
  double reached = 0.0;
  while (n_selected < k_max_ && (n_selected < k_min_ || reached < p_min_)) {
    reached += std::exp(static_cast<double>(logs[order[n_selected++]]));
  }
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(n_selected);
  if (first_always_ && std::find(order.begin(), end, 0u) == end) {
    // The clusters after it shift by one, so the order still contains all clusters.
    const auto first = std::find(end, order.end(), 0u);
    std::rotate(end, first, first + 1);
    ++n_selected;
  }
  return n_selected;
}

// Exact logits of the selected clusters, read in their order in memory, as many rows at a time as
// fit. Returns the log of the sum of their exp.
Result<double> ClusterHead::known_logits(Pass& pass, const float* z, size_t n_selected,
                                         float* logits) const {
  const std::span<uint32_t> order = pass.cluster_order();
  const std::span<uint32_t> ids = pass.ids().first(kMaxGather);
  float* const found = pass.take(kMaxGather);
  RWKV_TRY(pass.arena.status());
  LogSumExp known(*pass.table.elementwise);
  size_t n = 0;
  const auto flush = [&]() -> Status {
    RWKV_TRY(matmul_rows(pass, *rows_, ids.first(n), pass.numbers().first(n), RowOrder::Contiguous,
                         z, found, kMaxGather));
    known.add(std::span(found, n));
    for (size_t i = 0; i < n; ++i) {
      logits[tokens_[ids[i]]] = found[i];
    }
    n = 0;
    return {};
  };
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n_selected));
  for (const uint32_t c : order.first(n_selected)) {
    for (uint32_t row = first_[c]; row < first_[c + 1]; ++row) {
      if (row % kTokensPerLine == 0) {
        __builtin_prefetch(tokens_.data() + row);
      }
      ids[n++] = row;
      if (n == kMaxGather) {
        RWKV_TRY(flush());
      }
    }
  }
  if (n > 0) {
    RWKV_TRY(flush());
  }
  pass.release();
  return known.value();
}

// Tokens of other clusters: l_j = ln Q + ln p_j - ln P_A - ln n_j, with Q the sum of exp of the
// known logits and P_A the probability of the selected clusters (the specification's 4.5, with one
// maximum for all clusters). Token by token, since row by row they would be scattered.
void ClusterHead::spread_rest(Pass& pass, size_t n_selected, double known, float* logits) const {
  const std::span<float> logs = pass.cluster_logs();
  const std::span<const uint32_t> order = pass.cluster_order();
  LogSumExp selected(*pass.table.elementwise);
  for (const uint32_t c : order.first(n_selected)) {
    selected.add(std::exchange(logs[c], kHasOwn));
  }
  const double shift = known - selected.value();
  for (const uint32_t c : order.subspan(n_selected)) {
    const double n_rows = first_[c + 1] - first_[c];
    const auto logit = static_cast<float>(shift + static_cast<double>(logs[c]) - std::log(n_rows));
    logs[c] = std::min(logit, std::numeric_limits<float>::max());
  }
  pass.pool.run(clusters_.size(), kTokensAtATime, [&](size_t begin, size_t end, unsigned) {
    pass.table.elementwise->look_up(logs.data(), clusters_.data() + begin, kHasOwn, logits + begin,
                                    end - begin);
  });
}

Status ClusterHead::one_token(Pass& pass, const float* z, float* logits) const {
  RWKV_ASSIGN(const size_t n_selected, select(pass, z));
  RWKV_ASSIGN(const double known, known_logits(pass, z, n_selected, logits));
  if (n_selected < n_clusters()) {
    spread_rest(pass, n_selected, known, logits);
  }
  return {};
}

Status ClusterHead::forward(Pass& pass, const float* z, float* logits) const {
  // Each token selects its own clusters.
  const size_t n_tokens = pass.n_tokens;
  pass.n_tokens = 1;
  Status status;
  for (size_t t = 0; t < n_tokens && status.ok(); ++t) {
    status = one_token(pass, z + t * weight_.cols, logits + t * tokens_.size());
  }
  pass.n_tokens = n_tokens;
  return status;
}

}  // namespace rwkv::edge
