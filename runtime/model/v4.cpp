// time_mix of v4: a weighted average per channel, kept as numerator, denominator and largest
// exponent (wkv_num, wkv_den, wkv_max; "aa", "bb", "pp" in the reference code).
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "runtime/model/block.h"
#include "runtime/model/elementwise.h"
#include "runtime/model/projection.h"

namespace rwkv::edge {
namespace {

class TimeMixV4 final : public TimeMix {
 public:
  Status load(const Weights& weights, const std::string& prefix);
  void forward(Run& run, const float* x, float* out) const override;
  size_t max_rank() const override {
    return std::max({key_.rank(), value_.rank(), receptance_.rank(), output_.rank()});
  }

 private:
  void wkv(const Run& run, const float* k, float* v_to_wkv) const;

  std::span<const float> mix_k_, mix_v_, mix_r_;
  std::span<const float> bonus_;
  std::vector<float> decay_;  ///< -exp(time_decay): what is added to an exponent per token
  Projection key_, value_, receptance_, output_;
};

Status TimeMixV4::load(const Weights& weights, const std::string& prefix) {
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
void TimeMixV4::wkv(const Run& run, const float* k, float* v_to_wkv) const {
  const size_t n = decay_.size();
  float* num = run.state.wkv;
  float* den = num + n;
  float* max = den + n;
  for (size_t t = 0; t < run.n_tokens; ++t) {
    for (size_t i = 0; i < n; ++i) {
      const float k_t = k[t * n + i];
      const float v_t = v_to_wkv[t * n + i];
      const float here = bonus_[i] + k_t;
      const float q = std::max(max[i], here);
      const float past_share = std::exp(max[i] - q);
      const float here_share = std::exp(here - q);
      v_to_wkv[t * n + i] =
          (past_share * num[i] + here_share * v_t) / (past_share * den[i] + here_share);

      const float next = std::max(max[i] + decay_[i], k_t);
      const float keep = std::exp(max[i] + decay_[i] - next);
      const float gain = std::exp(k_t - next);
      num[i] = keep * num[i] + gain * v_t;
      den[i] = keep * den[i] + gain;
      max[i] = next;
    }
  }
}

void TimeMixV4::forward(Run& run, const float* x, float* out) const {
  const size_t n_embd = mix_k_.size();
  const size_t dim_att = decay_.size();
  float* prev = run.take(n_embd);
  float* mixed_r = run.take(n_embd);
  float* mixed_k = run.take(n_embd);
  float* mixed_v = run.take(n_embd);
  float* r = run.take(dim_att);
  float* k = run.take(dim_att);
  float* v = run.take(dim_att);
  token_shift(x, run.state.att_shift, prev, run.n_tokens, n_embd);

  mix_new(x, prev, mix_r_.data(), mixed_r, run.n_tokens, n_embd);
  mix_new(x, prev, mix_k_.data(), mixed_k, run.n_tokens, n_embd);
  mix_new(x, prev, mix_v_.data(), mixed_v, run.n_tokens, n_embd);
  const std::array<Projection::Application, 3> projections = {
      {{&receptance_, mixed_r, r}, {&key_, mixed_k, k}, {&value_, mixed_v, v}}};
  Projection::apply_all(run, projections);
  wkv(run, k, v);
  for (size_t i = 0; i < run.n_tokens * dim_att; ++i) {
    r[i] = sigmoid(r[i]) * v[i];
  }
  output_.apply(run, r, out);
  run.release();
}

}  // namespace

Result<std::unique_ptr<TimeMix>> load_time_mix_v4(const Weights& weights,
                                                  const std::string& prefix) {
  auto mix = std::make_unique<TimeMixV4>();
  RWKV_TRY(mix->load(weights, prefix));
  return std::unique_ptr<TimeMix>(std::move(mix));
}

}  // namespace rwkv::edge
