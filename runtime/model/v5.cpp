// time_mix of v5.0 (heads, group norm), v5.1 (+ gate) and v5.2 (decay per channel); x058 and x059
// are v5.2 whose projections are factor pairs.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "runtime/model/block.h"
#include "runtime/model/projection.h"
#include "runtime/model/token_shift.h"

namespace rwkv::edge {
namespace {

struct Buffers {
  std::array<float*, 4> mixed;
  float *r, *k, *v, *g, *y;
};

Buffers take_buffers(Arena& arena, size_t n_tokens, const ModelConfig& config) {
  const auto embd = [&] { return arena.take(n_tokens * config.n_embd); };
  const auto att = [&] { return arena.take(n_tokens * config.dim_att); };
  return {{embd(), embd(), embd(), embd()}, att(), att(), att(), att(), att()};
}

class TimeMixV5 final : public TimeMix {
 public:
  Status load(const Weights& weights, const std::string& prefix);
  Status forward(Pass& pass, const float* x, float* out) const override;

 private:
  ModelConfig config_;
  std::span<const float> mix_k_, mix_v_, mix_r_, mix_g_;
  std::span<const float> ln_x_weight_, ln_x_bias_;
  std::vector<float> decay_;  ///< exp(-exp(time_decay)), [dim_att]
  std::vector<float> bonus_;  ///< [dim_att]
  Projection key_, value_, receptance_, gate_, output_;
  bool has_gate_ = false;
};

// One value per head, or one per channel already, to one per channel.
std::vector<float> per_channel(std::span<const float> values, const ModelConfig& config) {
  std::vector<float> spread(config.dim_att);
  for (size_t i = 0; i < spread.size(); ++i) {
    spread[i] = values[values.size() == config.dim_att ? i : i / config.head_size];
  }
  return spread;
}

Status TimeMixV5::load(const Weights& weights, const std::string& prefix) {
  config_ = weights.config();
  has_gate_ = config_.version != Version::V5_0;
  const std::string att = prefix + "att.";
  RWKV_ASSIGN(mix_k_, weights.vector(att + "time_mix_k"));
  RWKV_ASSIGN(mix_v_, weights.vector(att + "time_mix_v"));
  RWKV_ASSIGN(mix_r_, weights.vector(att + "time_mix_r"));
  RWKV_ASSIGN(const std::span<const float> decay, weights.vector(att + "time_decay"));
  decay_ = per_channel(decay, config_);
  for (float& d : decay_) {
    d = std::exp(-std::exp(d));
  }
  // Per head time_first is a logarithm; its successor time_faaaa never is, nor is a time_first
  // beside a decay per channel, which only other programs write.
  const bool is_first = !weights.contains(att + "time_faaaa");
  const bool is_log = is_first && config_.version != Version::V5_2;
  RWKV_ASSIGN(const std::span<const float> bonus,
              weights.vector(att + (is_first ? "time_first" : "time_faaaa")));
  bonus_ = per_channel(bonus, config_);
  for (float& u : bonus_) {
    u = is_log ? std::exp(u) : u;
  }
  RWKV_ASSIGN(ln_x_weight_, weights.vector(att + "ln_x.weight"));
  RWKV_ASSIGN(ln_x_bias_, weights.vector(att + "ln_x.bias"));
  RWKV_ASSIGN(key_, Projection::load(weights, att + "key"));
  RWKV_ASSIGN(value_, Projection::load(weights, att + "value"));
  RWKV_ASSIGN(receptance_, Projection::load(weights, att + "receptance"));
  RWKV_ASSIGN(output_, Projection::load(weights, att + "output"));
  if (has_gate_) {
    RWKV_ASSIGN(mix_g_, weights.vector(att + "time_mix_g"));
    RWKV_ASSIGN(gate_, Projection::load(weights, att + "gate"));
  }
  return {};
}

Status TimeMixV5::forward(Pass& pass, const float* x, float* out) const {
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
  float* const y = buffers.y;
  // In the order in which they lie in a packed file: one stream.
  const std::array<Projection::Application, 4> projections = {{{&key_, mixed[0], k},
                                                               {&value_, mixed[1], v},
                                                               {&receptance_, mixed[2], r},
                                                               {&gate_, mixed[3], g}}};
  const std::array<std::span<const float>, 4> coefficients = {mix_k_, mix_v_, mix_r_, mix_g_};
  const size_t n_projections = has_gate_ ? 4 : 3;
  const Elementwise& elementwise = *pass.table.elementwise;
  const TokenShift shift{x, pass.state.att_shift, n_embd};
  pass.each_token([&](size_t t) {
    for (size_t i = 0; i < n_projections; ++i) {
      elementwise.mix_new(shift.at(t), shift.before(t), coefficients[i].data(),
                          mixed[i] + t * n_embd, n_embd);
    }
  });
  shift.advance(T);
  RWKV_TRY(Projection::apply_all(pass, {projections.data(), n_projections}));
  pass.each_head(config_.n_head, [&](size_t begin, size_t end) {
    for (size_t h = begin; h < end; ++h) {
      const size_t at = h * n;
      pass.table.wkv_v5({r + at, k + at, v + at, decay_.data() + at, bonus_.data() + at,
                         pass.state.wkv + at * n, y + at, n, T, dim_att, 0});
    }
    const size_t channel = begin * n;
    const size_t size = (end - begin) * n;
    for (size_t t = 0; t < T; ++t) {
      const size_t at = t * dim_att + channel;
      elementwise.group_norm(y + at, ln_x_weight_.data() + channel, ln_x_bias_.data() + channel,
                             size, n, config_.group_norm_eps);
      if (has_gate_) {
        elementwise.silu_gate(y + at, g + at, size);
      }
    }
  });
  RWKV_TRY(output_.apply(pass, y, out));
  pass.release();
  return {};
}

}  // namespace

size_t time_mix_floats_v5(const ModelConfig& config) {
  Arena counter;
  take_buffers(counter, 1, config);
  return counter.most();
}

Result<std::unique_ptr<TimeMix>> load_time_mix_v5(const Weights& weights,
                                                  const std::string& prefix) {
  auto mix = std::make_unique<TimeMixV5>();
  RWKV_TRY(mix->load(weights, prefix));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::edge
