// time_mix of v6: as v5.2, with mixing coefficients and decay that depend on the data.
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/model/block.h"
#include "runtime/model/projection.h"
#include "runtime/model/token_shift.h"

namespace rwkv::edge {
namespace {

// The order of the five mixes in time_maa_w1 and time_maa_w2.
constexpr std::array<const char*, 5> kMixNames = {"time_maa_w", "time_maa_k", "time_maa_v",
                                                  "time_maa_r", "time_maa_g"};
enum Mix { kW, kK, kV, kR, kG };

struct Buffers {
  std::array<float*, 5> mixed;
  float *r, *k, *v, *g, *w, *y;
  float* inner;                 // of the five mixes, together
  std::array<float*, 5> parts;  // and one by one
};

Buffers take_buffers(Arena& arena, size_t n_tokens, const ModelConfig& config) {
  const auto embd = [&] { return arena.take(n_tokens * config.n_embd); };
  const auto att = [&] { return arena.take(n_tokens * config.dim_att); };
  const auto rank = [&] { return arena.take(n_tokens * config.mix_lora); };
  return {{embd(), embd(), embd(), embd(), embd()},
          att(),
          att(),
          att(),
          att(),
          att(),
          att(),
          arena.take(n_tokens * 5 * config.mix_lora),
          {rank(), rank(), rank(), rank(), rank()}};
}

class TimeMixV6 final : public TimeMix {
 public:
  Status load(const Weights& weights, const std::string& prefix);
  Status forward(Pass& pass, const float* x, float* out) const override;

 private:
  Status mix_all(Pass& pass, const TokenShift& shift, const Buffers& buffers) const;

  ModelConfig config_;
  std::span<const float> maa_x_;
  std::array<std::span<const float>, 5> maa_;
  Matrix maa_w1_;      ///< [5 * mix_lora, n_embd]
  MatrixView maa_w2_;  ///< [5 * n_embd, mix_lora]
  std::span<const float> decay_;
  std::span<const float> bonus_;
  std::span<const float> ln_x_weight_, ln_x_bias_;
  Projection key_, value_, receptance_, gate_, output_;
  Projection decay_pair_;
};

Status TimeMixV6::load(const Weights& weights, const std::string& prefix) {
  config_ = weights.config();
  const std::string att = prefix + "att.";
  RWKV_ASSIGN(maa_x_, weights.vector(att + "time_maa_x"));
  for (size_t i = 0; i < kMixNames.size(); ++i) {
    RWKV_ASSIGN(maa_[i], weights.vector(att + kMixNames[i]));
  }
  RWKV_ASSIGN(maa_w1_, weights.matrix(att + "time_maa_w1"));
  RWKV_ASSIGN(maa_w2_, weights.matrix(att + "time_maa_w2"));
  // Its five parts are multiplied one by one.
  if (const uint32_t unit = codec_traits(maa_w2_.codec).unit_rows; config_.n_embd % unit != 0) {
    return bad_input(
        "'{}time_maa_w2': parts of {} rows are not whole panels of {}; convert with "
        "another codec for it",
        att, config_.n_embd, unit);
  }
  RWKV_ASSIGN(decay_, weights.vector(att + "time_decay"));
  RWKV_ASSIGN(decay_pair_, Projection::load_lora(weights, att + "time_decay_w1",
                                                 att + "time_decay_w2", Activation::Tanh));
  RWKV_ASSIGN(bonus_, weights.vector(att + "time_faaaa"));
  RWKV_ASSIGN(ln_x_weight_, weights.vector(att + "ln_x.weight"));
  RWKV_ASSIGN(ln_x_bias_, weights.vector(att + "ln_x.bias"));
  RWKV_ASSIGN(key_, Projection::load(weights, att + "key"));
  RWKV_ASSIGN(value_, Projection::load(weights, att + "value"));
  RWKV_ASSIGN(receptance_, Projection::load(weights, att + "receptance"));
  RWKV_ASSIGN(gate_, Projection::load(weights, att + "gate"));
  RWKV_ASSIGN(output_, Projection::load(weights, att + "output"));
  return {};
}

// x_q = x + (prev - x) * (maa_q + m_q), m = tanh((x + (prev - x) maa_x) w1) w2 in five parts.
Status TimeMixV6::mix_all(Pass& pass, const TokenShift& shift, const Buffers& buffers) const {
  const auto& mixed = buffers.mixed;
  const auto& parts = buffers.parts;
  float* const inner = buffers.inner;
  const Elementwise& elementwise = *pass.table.elementwise;
  const size_t n = config_.n_embd;
  const size_t rank = config_.mix_lora;
  pass.each_token([&](size_t t) {
    elementwise.mix_previous(shift.at(t), shift.before(t), maa_x_.data(), mixed[0] + t * n, n);
  });
  RWKV_TRY(matmul(pass, maa_w1_, mixed[0], inner));
  std::array<Product, 5> products;
  for (size_t q = 0; q < mixed.size(); ++q) {
    products[q] = {maa_w2_.row_range(q * n, n), parts[q], mixed[q]};
  }
  pass.each_token([&](size_t t) {
    float* all = inner + t * 5 * rank;
    elementwise.tanh(all, 5 * rank);
    for (size_t q = 0; q < parts.size(); ++q) {
      std::copy(all + q * rank, all + (q + 1) * rank, parts[q] + t * rank);
    }
  });
  RWKV_TRY(matmul_all(pass, products));
  pass.each_token([&](size_t t) {
    for (size_t q = 0; q < mixed.size(); ++q) {
      elementwise.mix_adapted(shift.at(t), shift.before(t), maa_[q].data(), mixed[q] + t * n, n);
    }
  });
  return {};
}

Status TimeMixV6::forward(Pass& pass, const float* x, float* out) const {
  const size_t n_embd = config_.n_embd;
  const size_t dim_att = config_.dim_att;
  const size_t n = config_.head_size;
  const size_t T = pass.n_tokens;
  const Buffers buffers = take_buffers(pass.arena, T, config_);
  RWKV_TRY(pass.arena.status());
  const auto& mixed = buffers.mixed;
  float* const r = buffers.r;
  float* const k = buffers.k;
  float* const v = buffers.v;
  float* const g = buffers.g;
  float* const w = buffers.w;
  float* const y = buffers.y;
  const TokenShift shift{x, pass.state.att_shift, n_embd};
  RWKV_TRY(mix_all(pass, shift, buffers));
  shift.advance(T);
  const std::array<Projection::Application, 5> projections = {{{&key_, mixed[kK], k},
                                                               {&value_, mixed[kV], v},
                                                               {&receptance_, mixed[kR], r},
                                                               {&gate_, mixed[kG], g},
                                                               {&decay_pair_, mixed[kW], w}}};
  RWKV_TRY(Projection::apply_all(pass, projections));
  // w = exp(-exp(time_decay + tanh(x_w w1) w2)), per token and channel.
  const Elementwise& elementwise = *pass.table.elementwise;
  pass.each_head(config_.n_head, [&](size_t begin, size_t end) {
    const size_t channel = begin * n;
    const size_t size = (end - begin) * n;
    for (size_t t = 0; t < T; ++t) {
      elementwise.decay_v6(w + t * dim_att + channel, decay_.data() + channel, size);
    }
    for (size_t h = begin; h < end; ++h) {
      const size_t at = h * n;
      pass.table.wkv_v5({r + at, k + at, v + at, w + at, bonus_.data() + at,
                         pass.state.wkv + at * n, y + at, n, T, dim_att, dim_att});
    }
    for (size_t t = 0; t < T; ++t) {
      const size_t at = t * dim_att + channel;
      elementwise.group_norm(y + at, ln_x_weight_.data() + channel, ln_x_bias_.data() + channel,
                             size, n, config_.group_norm_eps);
      elementwise.silu_gate(y + at, g + at, size);
    }
  });
  RWKV_TRY(output_.apply(pass, y, out));
  pass.release();
  return {};
}

}  // namespace

size_t time_mix_floats_v6(const ModelConfig& config) {
  Arena counter;
  take_buffers(counter, 1, config);
  return counter.most() + config.decay_lora;
}

Result<std::unique_ptr<TimeMix>> load_time_mix_v6(const Weights& weights,
                                                  const std::string& prefix) {
  auto mix = std::make_unique<TimeMixV6>();
  RWKV_TRY(mix->load(weights, prefix));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::edge
