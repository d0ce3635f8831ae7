// time_mix of v4: a weighted average per channel, kept as numerator, denominator and largest
// exponent (wkv_num, wkv_den, wkv_max; "aa", "bb", "pp" in the reference code).
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "runtime/model/block.h"
#include "runtime/model/projection.h"
#include "runtime/model/token_shift.h"

namespace rwkv::edge {
namespace {

// Each takes four exponentials per token.
constexpr size_t kChannelsAtATime = 256;

struct Buffers {
  float *mixed_r, *mixed_k, *mixed_v, *r, *k, *v;
};

Buffers take_buffers(Arena& arena, size_t n_tokens, const ModelConfig& config) {
  const auto embd = [&] { return arena.take(n_tokens * config.n_embd); };
  const auto att = [&] { return arena.take(n_tokens * config.dim_att); };
  return {embd(), embd(), embd(), att(), att(), att()};
}

class TimeMixV4 final : public TimeMix {
 public:
  Status load(const Weights& weights, const std::string& prefix);
  Status forward(Pass& pass, const float* x, float* out) const override;

 private:
  void wkv(Pass& pass, const float* k, float* v_to_wkv) const;

  ModelConfig config_;
  std::span<const float> mix_k_, mix_v_, mix_r_;
  std::span<const float> bonus_;
  std::vector<float> decay_;  ///< -exp(time_decay), added to an exponent per token
  Projection key_, value_, receptance_, output_;
};

Status TimeMixV4::load(const Weights& weights, const std::string& prefix) {
  config_ = weights.config();
  const std::string att = prefix + "att.";
  RWKV_ASSIGN(mix_k_, weights.vector(att + "time_mix_k"));
  RWKV_ASSIGN(mix_v_, weights.vector(att + "time_mix_v"));
  RWKV_ASSIGN(mix_r_, weights.vector(att + "time_mix_r"));
  RWKV_ASSIGN(bonus_, weights.vector(att + "time_first"));
  RWKV_ASSIGN(const std::span<const float> decay, weights.vector(att + "time_decay"));
  for (const float d : decay) {
    decay_.push_back(-std::exp(d));
  }
  RWKV_ASSIGN(key_, Projection::load(weights, att + "key"));
  RWKV_ASSIGN(value_, Projection::load(weights, att + "value"));
  RWKV_ASSIGN(receptance_, Projection::load(weights, att + "receptance"));
  RWKV_ASSIGN(output_, Projection::load(weights, att + "output"));
  return {};
}

// Replaces v by wkv, in place.
void TimeMixV4::wkv(Pass& pass, const float* k, float* v_to_wkv) const {
  const size_t n = decay_.size();
  float* num = pass.state.wkv;
  const WkvV4Args args = {
      k, v_to_wkv, decay_.data(), bonus_.data(), num, num + n, num + 2 * n, pass.n_tokens, n};
  pass.pool.run(n, kChannelsAtATime, [&](size_t begin, size_t end, unsigned) {
    pass.table.elementwise->wkv_v4(args, begin, end);
  });
}

Status TimeMixV4::forward(Pass& pass, const float* x, float* out) const {
  const size_t n_embd = mix_k_.size();
  const size_t dim_att = decay_.size();
  const Buffers b = take_buffers(pass.arena, pass.n_tokens, config_);
  RWKV_TRY(pass.arena.status());
  const Elementwise& elementwise = *pass.table.elementwise;
  const TokenShift shift{x, pass.state.att_shift, n_embd};
  pass.each_token([&](size_t t) {
    const auto mix = [&](std::span<const float> coefficients, float* to) {
      elementwise.mix_new(shift.at(t), shift.before(t), coefficients.data(), to + t * n_embd,
                          n_embd);
    };
    mix(mix_r_, b.mixed_r);
    mix(mix_k_, b.mixed_k);
    mix(mix_v_, b.mixed_v);
  });
  shift.advance(pass.n_tokens);
  const std::array<Projection::Application, 3> projections = {
      {{&key_, b.mixed_k, b.k}, {&value_, b.mixed_v, b.v}, {&receptance_, b.mixed_r, b.r}}};
  RWKV_TRY(Projection::apply_all(pass, projections));
  wkv(pass, b.k, b.v);
  pass.each_token(
      [&](size_t t) { elementwise.sigmoid_gate(b.v + t * dim_att, b.r + t * dim_att, dim_att); });
  RWKV_TRY(output_.apply(pass, b.v, out));
  pass.release();
  return {};
}

}  // namespace

size_t time_mix_floats_v4(const ModelConfig& config) {
  Arena counter;
  take_buffers(counter, 1, config);
  return counter.most();
}

Result<std::unique_ptr<TimeMix>> load_time_mix_v4(const Weights& weights,
                                                  const std::string& prefix) {
  auto mix = std::make_unique<TimeMixV4>();
  RWKV_TRY(mix->load(weights, prefix));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::edge
