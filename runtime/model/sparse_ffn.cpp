#include "runtime/model/sparse_ffn.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace rwkv::edge {
namespace {

// Bytes, so that the table stays in the first cache.
struct SetBits {
  uint8_t bits[8];
  uint8_t n;
};
// For each byte which of its bits are set.
constexpr auto kSetBits = [] {
  std::array<SetBits, 256> all{};
  for (size_t byte = 0; byte < all.size(); ++byte) {
    SetBits& set = all[byte];
    for (uint8_t bit = 0; bit < 8; ++bit) {
      if ((byte >> bit & 1) != 0) {
        set.bits[set.n++] = bit;
      }
    }
  }
  return all;
}();

// Eight marks of zeros and ones, the first one's in the lowest byte.
uint64_t eight_marks(const uint8_t* from) {
  uint64_t eight;
  std::memcpy(&eight, from, sizeof(eight));
  return eight;
}

// Keeps those of `ids` that are above zero in the neurons of a single token, in place.
std::span<const uint32_t> keep_positive(std::span<uint32_t> ids, const float* neurons) {
  size_t n = 0;
  for (const uint32_t id : ids) {
    ids[n] = id;
    n += neurons[id] > 0.0f ? 1 : 0;
  }
  return ids.first(n);
}

// The neurons that are marked, 1 and not 0, for any token, ascending. Eight at a time and without a
// branch, since the marks are not predictable.
std::span<uint32_t> list_marked(Pass& pass, size_t n_neurons) {
  const uint8_t* const marks = pass.marks();
  const size_t whole = n_neurons / 8 * 8;
  const size_t n_tokens = pass.n_tokens;
  uint32_t* const ids = pass.ids().data();
  uint32_t* next = ids;
  for (size_t j = 0; j < whole; j += 8) {
    uint64_t any = eight_marks(marks + j);
    for (size_t t = 1; t < n_tokens; ++t) {
      any |= eight_marks(marks + t * n_neurons + j);
    }
    // The lowest bit of byte k becomes bit k of the highest byte.
    const SetBits& set = kSetBits[(any * 0x0102040810204080U) >> 56U];
    for (size_t k = 0; k < 8; ++k) {
      next[k] = static_cast<uint32_t>(j) + set.bits[k];
    }
    next += set.n;
  }
  for (size_t j = whole; j < n_neurons; ++j) {
    uint8_t any = 0;
    for (size_t t = 0; t < n_tokens; ++t) {
      any |= marks[t * n_neurons + j];
    }
    *next = static_cast<uint32_t>(j);
    next += any;
  }
  return {ids, static_cast<size_t>(next - ids)};
}

}  // namespace

Status SparseFfn::load(const Weights& weights, const std::string& prefix) {
  const std::string key = prefix + "ffn.key.weight";
  const std::string value = prefix + "ffn.value.weight";
  RWKV_ASSIGN(key_, weights.matrix(key));
  RWKV_ASSIGN(value_rows_, weights.rows(value));
  RWKV_TRY(load_predictor(weights, prefix + "ffn.predictor."));
  if (has_predictor()) {
    RWKV_ASSIGN(key_rows_, weights.rows(key));
  }
  return {};
}

Status SparseFfn::load_predictor(const Weights& weights, const std::string& prefix) {
  has_sign_ = weights.contains(prefix + "sign.weight");
  has_mlp_ = weights.contains(prefix + "fc1.weight");
  if (!has_predictor()) {
    return {};
  }
  RWKV_ASSIGN(const std::span<const float> thresholds, weights.vector(prefix + "threshold"));
  sign_threshold_ = thresholds[0];
  mlp_threshold_ = thresholds[1];
  if (weights.contains(prefix + "bias")) {
    RWKV_ASSIGN(bias_, weights.vector(prefix + "bias"));
  }
  if (has_sign_) {
    RWKV_ASSIGN(const Matrix bits, weights.matrix(prefix + "sign.weight"));
    sign_ = Projection::of(bits);
  }
  if (has_mlp_) {
    RWKV_ASSIGN(mlp_, Projection::load_lora(weights, prefix + "fc1.weight", prefix + "fc2.weight",
                                            Activation::Relu));
  }
  return {};
}

SparseFfn::Buffers SparseFfn::take_buffers(Arena& arena, size_t n, bool has_both) {
  float* const neurons = arena.take(n);
  return {neurons, has_both ? arena.take(n) : neurons};
}

size_t SparseFfn::floats(const ModelConfig& config) {
  Arena counter;
  take_buffers(counter, config.dim_ffn, config.predictor_hidden > 0);
  return counter.most() + config.predictor_hidden;
}

// Marks the neurons that either half of the predictor names.
Status SparseFfn::name_neurons(Pass& pass, const float* x, const Buffers& buffers,
                               const Projection::Application* alongside) const {
  const size_t n = pass.n_tokens * key_.rows;
  std::array<Projection::Application, 3> all{};
  size_t n_all = 0;
  if (has_sign_) {
    all[n_all++] = {&sign_, x, buffers.neurons};
  }
  if (has_mlp_) {
    all[n_all++] = {&mlp_, x, buffers.mlp_scores};
  }
  if (alongside) {
    all[n_all++] = *alongside;
  }
  RWKV_TRY(Projection::apply_all(pass, std::span(all).first(n_all)));
  uint8_t* marks = pass.marks();
  std::fill(marks, marks + n, uint8_t{0});
  const auto mark_above = pass.table.elementwise->mark_above;
  if (has_sign_) {
    mark_above(buffers.neurons, sign_threshold_, marks, n);
  }
  if (has_mlp_) {
    mark_above(buffers.mlp_scores, mlp_threshold_, marks, n);
  }
  return {};
}

// relu(K x)^2 of all neurons.
Status SparseFfn::activate_all(Pass& pass, const float* x, const Buffers& buffers,
                               const Projection::Application* alongside) const {
  const size_t n_neurons = key_.rows;
  const Projection key = Projection::of(key_);
  pass.prefetch(Pass::Prefetch::all_of(value_rows_));
  // In the order in which they lie in a packed file: one stream. Both halves of a pair come before
  // the neurons.
  std::array<Projection::Application, 2> all{};
  size_t n_all = 0;
  if (alongside && alongside->projection->rank() > 0) {
    RWKV_TRY(Projection::apply_all(pass, {alongside, 1}));
  } else if (alongside) {
    all[n_all++] = *alongside;
  }
  all[n_all++] = {&key, x, buffers.neurons};
  RWKV_TRY(Projection::apply_all(pass, std::span(all).first(n_all)));
  pass.each_token([&](size_t t) {
    pass.table.elementwise->relu_squared(buffers.neurons + t * n_neurons, n_neurons);
  });
  return {};
}

// The same of those that the predictor names for any token, which are returned; the others are 0.
Result<std::span<uint32_t>> SparseFfn::activate_named(
    Pass& pass, const float* x, const Buffers& buffers,
    const Projection::Application* alongside) const {
  const size_t n_neurons = key_.rows;
  const size_t n = pass.n_tokens * n_neurons;
  float* const neurons = buffers.neurons;
  pass.prefetch(Pass::Prefetch::all_of(key_rows_));
  RWKV_TRY(name_neurons(pass, x, buffers, alongside));
  const uint8_t* marks = pass.marks();
  const auto ids = list_marked(pass, n_neurons);
  std::fill(neurons, neurons + n, 0.0f);
  pass.prefetch(Pass::Prefetch::all_of(value_rows_));
  RWKV_TRY(matmul_rows(pass, *key_rows_, ids, ids, RowOrder::Scattered, x, neurons, n_neurons));
  pass.table.elementwise->relu_squared(neurons, n);
  // A neuron may have been named by another token of the pass.
  for (size_t i = 0; i < n && pass.n_tokens > 1; ++i) {
    neurons[i] = marks[i] != 0 ? neurons[i] : 0.0f;
  }
  return ids;
}

// Neurons of all tokens; returns those that are above zero for any, ascending.
Result<std::span<const uint32_t>> SparseFfn::activate(
    Pass& pass, const float* x, const Buffers& buffers,
    const Projection::Application* alongside) const {
  if (has_predictor()) {
    RWKV_ASSIGN(const std::span<uint32_t> named, activate_named(pass, x, buffers, alongside));
    if (pass.n_tokens == 1) {
      return keep_positive(named, buffers.neurons);
    }
  } else {
    RWKV_TRY(activate_all(pass, x, buffers, alongside));
  }
  const size_t n = pass.n_tokens * key_.rows;
  std::fill(pass.marks(), pass.marks() + n, uint8_t{0});
  pass.table.elementwise->mark_above(buffers.neurons, 0.0f, pass.marks(), n);
  return std::span<const uint32_t>(list_marked(pass, key_.rows));
}

void SparseFfn::add_bias(const Pass& pass, float* out) const {
  for (size_t t = 0; t < pass.n_tokens && !bias_.empty(); ++t) {
    pass.table.elementwise->add(out + t * bias_.size(), bias_.data(), bias_.size());
  }
}

Status SparseFfn::forward(Pass& pass, const float* x, float* out, const float* gate,
                          const Projection::Application* alongside) const {
  const Buffers buffers =
      take_buffers(pass.arena, pass.n_tokens * key_.rows, has_sign_ && has_mlp_);
  RWKV_TRY(pass.arena.status());
  RWKV_ASSIGN(const std::span<const uint32_t> ids, activate(pass, x, buffers, alongside));
  if (gate) {
    const size_t n = key_.rows;
    pass.each_token([&](size_t t) {
      pass.table.elementwise->multiply(buffers.neurons + t * n, gate + t * n, n);
    });
  }
  RWKV_TRY(add_scaled_rows(pass, *value_rows_, ids, buffers.neurons, out));
  add_bias(pass, out);
  return {};
}

}  // namespace rwkv::edge
