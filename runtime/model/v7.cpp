// time_mix of v7: the generalised delta rule, S = S diag(w) - (S kk)(kk a)^T + v k^T.
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/model/block.h"
#include "runtime/model/projection.h"
#include "runtime/model/token_shift.h"

namespace rwkv::edge {
namespace {

// Inputs: the mixes of x; outputs computed from them: [n_tokens][dim_att] each.
struct Mixed {
  float *r, *w, *k, *v, *a, *g;
};
struct Outputs {
  float *r, *w, *k, *v, *a, *g;
  float* v_residual;
};

struct Buffers {
  Outputs outputs;
  float *kk, *y;
  std::array<float*, 6> mixed;
};

Buffers take_buffers(Arena& arena, size_t n_tokens, const ModelConfig& config) {
  const auto embd = [&] { return arena.take(n_tokens * config.n_embd); };
  const auto att = [&] { return arena.take(n_tokens * config.dim_att); };
  Buffers buffers = {{att(), att(), att(), att(), att(), att(), nullptr},
                     att(),
                     att(),
                     {embd(), embd(), embd(), embd(), embd(), embd()}};
  // Until the recurrence has its inputs.
  buffers.outputs.v_residual = buffers.y;
  return buffers;
}

class TimeMixV7 final : public TimeMix {
 public:
  Status load(const Weights& weights, const std::string& prefix, bool is_first);
  Status forward(Pass& pass, const float* x, float* out) const override;

 private:
  Status project(Pass& pass, const Mixed& mixed, const Outputs& out) const;
  void shape(Pass& pass, const Outputs& out, float* kk, size_t channel, size_t n) const;

  ModelConfig config_;
  bool is_first_ = false;
  std::span<const float> x_r_, x_w_, x_k_, x_v_, x_a_, x_g_;
  std::span<const float> w0_, a0_, v0_;
  std::span<const float> k_k_, k_a_, r_k_;
  std::span<const float> ln_x_weight_, ln_x_bias_;
  Projection key_, value_, receptance_, output_;
  Projection decay_, iclr_, value_residual_, gate_;  // lora pairs
};

Status TimeMixV7::load(const Weights& weights, const std::string& prefix, bool is_first) {
  config_ = weights.config();
  is_first_ = is_first;
  const std::string att = prefix + "att.";
  struct VectorName {
    std::span<const float>& to;
    const char* name;
  };
  const VectorName vectors[] = {{x_r_, "x_r"},
                                {x_w_, "x_w"},
                                {x_k_, "x_k"},
                                {x_v_, "x_v"},
                                {x_a_, "x_a"},
                                {x_g_, "x_g"},
                                {w0_, "w0"},
                                {a0_, "a0"},
                                {k_k_, "k_k"},
                                {k_a_, "k_a"},
                                {r_k_, "r_k"},
                                {ln_x_weight_, "ln_x.weight"},
                                {ln_x_bias_, "ln_x.bias"}};
  for (const VectorName& vector : vectors) {
    RWKV_ASSIGN(vector.to, weights.vector(att + vector.name));
  }
  const auto load_pair = [&](const char* letter, Activation activation) {
    return Projection::load_lora(weights, att + letter + "1", att + letter + "2", activation);
  };
  RWKV_ASSIGN(decay_, load_pair("w", Activation::Tanh));
  RWKV_ASSIGN(iclr_, load_pair("a", Activation::Nothing));
  RWKV_ASSIGN(gate_, load_pair("g", Activation::Sigmoid));
  if (!is_first_) {
    RWKV_ASSIGN(v0_, weights.vector(att + "v0"));
    RWKV_ASSIGN(value_residual_, load_pair("v", Activation::Nothing));
  }
  RWKV_ASSIGN(key_, Projection::load(weights, att + "key"));
  RWKV_ASSIGN(value_, Projection::load(weights, att + "value"));
  RWKV_ASSIGN(receptance_, Projection::load(weights, att + "receptance"));
  RWKV_ASSIGN(output_, Projection::load(weights, att + "output"));
  return {};
}

// All products of the mixed inputs, in two steps for the pairs.
Status TimeMixV7::project(Pass& pass, const Mixed& mixed, const Outputs& out) const {
  const std::array<Projection::Application, 7> projections = {
      {{&key_, mixed.k, out.k},
       {&value_, mixed.v, out.v},
       {&receptance_, mixed.r, out.r},
       {&decay_, mixed.w, out.w},
       {&iclr_, mixed.a, out.a},
       {&gate_, mixed.g, out.g},
       {&value_residual_, mixed.v, out.v_residual}}};
  // The first block's value is what the others take a part of.
  return Projection::apply_all(pass, std::span(projections).first(is_first_ ? 6 : 7));
}

// What the products gave to what the recurrence takes: decays, learning rates, values, keys; of `n`
// channels from `channel` on.
void TimeMixV7::shape(Pass& pass, const Outputs& out, float* kk, size_t channel, size_t n) const {
  const Elementwise& elementwise = *pass.table.elementwise;
  for (size_t t = 0; t < pass.n_tokens; ++t) {
    const size_t at = t * config_.dim_att + channel;
    if (is_first_) {
      std::copy(out.v + at, out.v + at + n, pass.v_first() + at);
    } else {
      elementwise.value_v7(out.v + at, pass.v_first() + at, out.v_residual + at,
                           v0_.data() + channel, n);
    }
    elementwise.decay_v7(out.w + at, w0_.data() + channel, n);
    elementwise.biased_sigmoid(out.a + at, a0_.data() + channel, n);
    elementwise.keys_v7({out.k + at, out.a + at, kk + at, k_k_.data() + channel,
                         k_a_.data() + channel, config_.head_size, n});
  }
}

Status TimeMixV7::forward(Pass& pass, const float* x, float* out) const {
  const size_t n_embd = config_.n_embd;
  const size_t dim_att = config_.dim_att;
  const size_t n = config_.head_size;
  const size_t T = pass.n_tokens;
  const Buffers buffers = take_buffers(pass.arena, T, config_);
  RWKV_TRY(pass.arena.status());
  const Outputs& outputs = buffers.outputs;
  float* const r = outputs.r;
  float* const w = outputs.w;
  float* const k = outputs.k;
  float* const v = outputs.v;
  float* const a = outputs.a;
  float* const g = outputs.g;
  float* const kk = buffers.kk;
  float* const y = buffers.y;
  const auto& mixed = buffers.mixed;
  const Elementwise& elementwise = *pass.table.elementwise;
  const TokenShift shift{x, pass.state.att_shift, n_embd};
  const std::array<std::span<const float>, 6> coefficients = {x_r_, x_w_, x_k_, x_v_, x_a_, x_g_};
  pass.each_token([&](size_t t) {
    for (size_t i = 0; i < mixed.size(); ++i) {
      elementwise.mix_previous(shift.at(t), shift.before(t), coefficients[i].data(),
                               mixed[i] + t * n_embd, n_embd);
    }
  });
  shift.advance(T);
  RWKV_TRY(project(pass, {mixed[0], mixed[1], mixed[2], mixed[3], mixed[4], mixed[5]}, outputs));
  pass.each_head(config_.n_head, [&](size_t begin, size_t end) {
    const size_t channel = begin * n;
    const size_t size = (end - begin) * n;
    shape(pass, outputs, kk, channel, size);
    for (size_t h = begin; h < end; ++h) {
      const size_t at = h * n;
      pass.table.wkv_v7({{r + at, k + at, v + at, w + at, nullptr, pass.state.wkv + at * n, y + at,
                          n, T, dim_att, dim_att},
                         kk + at,
                         a + at});
    }
    for (size_t t = 0; t < T; ++t) {
      const size_t at = t * dim_att + channel;
      elementwise.group_norm(y + at, ln_x_weight_.data() + channel, ln_x_bias_.data() + channel,
                             size, n, config_.group_norm_eps);
      elementwise.bonus_v7({r + at, k + at, v + at, r_k_.data() + channel, y + at, n, size});
      elementwise.multiply(y + at, g + at, size);
    }
  });
  RWKV_TRY(output_.apply(pass, y, out));
  pass.release();
  return {};
}

}  // namespace

size_t time_mix_floats_v7(const ModelConfig& config) {
  Arena counter;
  take_buffers(counter, 1, config);
  return counter.most() + config.decay_lora + config.iclr_lora + config.gate_lora +
         config.value_lora;
}

Result<std::unique_ptr<TimeMix>> load_time_mix_v7(const Weights& weights,
                                                  const std::string& prefix) {
  auto mix = std::make_unique<TimeMixV7>();
  RWKV_TRY(mix->load(weights, prefix, prefix == "blocks.0."));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::edge
