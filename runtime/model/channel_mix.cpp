// channel_mix of all versions: k = relu(K x_k)^2, out = V k, gated by sigmoid(R x_r) before v7. In
// v7a, k is multiplied by a gate that depends on the token (deep_embed.h).
#include <algorithm>

#include "runtime/model/block.h"
#include "runtime/model/deep_embed.h"
#include "runtime/model/projection.h"
#include "runtime/model/sparse_ffn.h"
#include "runtime/model/token_shift.h"

namespace rwkv::edge {
namespace {

struct Buffers {
  float* mixed_k;
  float* mixed_r;
  float* gate;
  float* neuron_gate;  ///< [dim_ffn]
};

Buffers take_buffers(Arena& arena, size_t n_tokens, const ModelConfig& config,
                     bool has_receptance) {
  const auto embd = [&] { return arena.take(n_tokens * config.n_embd); };
  if (has_receptance) {
    return {embd(), embd(), embd(), nullptr};
  }
  const bool is_gated = config.deep_embed > 0;
  return {embd(), nullptr, nullptr, is_gated ? arena.take(n_tokens * config.dim_ffn) : nullptr};
}

class ChannelMixImpl final : public ChannelMix {
 public:
  Status load(const Weights& weights, const std::string& prefix);
  Status forward(Pass& pass, const float* x, float* out) const override;

 private:
  ModelConfig config_;
  bool is_new_mixed_ = true;  ///< which of the two tokens the coefficients weigh
  std::span<const float> mix_k_;
  std::span<const float> mix_r_;
  Projection receptance_;
  bool has_receptance_ = true;
  SparseFfn neurons_;
  DeepEmbed deep_embed_;  ///< v7a only
};

// The names of the mixing coefficients, the only difference besides receptance.
struct MixNames {
  const char* k;
  const char* r;
};
MixNames mix_names(Version version) {
  switch (version) {
    case Version::V4:
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      return {"time_mix_k", "time_mix_r"};
    case Version::V6:
      return {"time_maa_k", "time_maa_r"};
    case Version::V7:
    case Version::V7a:
      return {"x_k", nullptr};
  }
  return {"", nullptr};
}

Status ChannelMixImpl::load(const Weights& weights, const std::string& prefix) {
  config_ = weights.config();
  const Version version = config_.version;
  const MixNames names = mix_names(version);
  is_new_mixed_ = version != Version::V6 && !is_v7(version);
  has_receptance_ = names.r != nullptr;
  RWKV_ASSIGN(mix_k_, weights.vector(prefix + "ffn." + names.k));
  RWKV_TRY(neurons_.load(weights, prefix));
  if (config_.deep_embed > 0) {
    RWKV_TRY(deep_embed_.load(weights, prefix));
  }
  if (has_receptance_) {
    RWKV_ASSIGN(mix_r_, weights.vector(prefix + "ffn." + names.r));
    RWKV_ASSIGN(receptance_, Projection::load(weights, prefix + "ffn.receptance"));
  }
  return {};
}

Status ChannelMixImpl::forward(Pass& pass, const float* x, float* out) const {
  const size_t n_embd = neurons_.n_embd();
  const Elementwise& elementwise = *pass.table.elementwise;
  const auto mix = is_new_mixed_ ? elementwise.mix_new : elementwise.mix_previous;
  const Buffers b = take_buffers(pass.arena, pass.n_tokens, config_, has_receptance_);
  RWKV_TRY(pass.arena.status());
  const TokenShift shift{x, pass.state.ffn_shift, n_embd};
  pass.each_token([&](size_t t) {
    const size_t at = t * n_embd;
    mix(shift.at(t), shift.before(t), mix_k_.data(), b.mixed_k + at, n_embd);
    if (has_receptance_) {
      mix(shift.at(t), shift.before(t), mix_r_.data(), b.mixed_r + at, n_embd);
    }
  });
  shift.advance(pass.n_tokens);
  if (b.neuron_gate) {
    RWKV_TRY(deep_embed_.forward(pass, x, b.neuron_gate));
  }
  const Projection::Application receptance{&receptance_, b.mixed_r, b.gate};
  RWKV_TRY(neurons_.forward(pass, b.mixed_k, out, b.neuron_gate,
                            has_receptance_ ? &receptance : nullptr));
  if (has_receptance_) {
    pass.each_token(
        [&](size_t t) { elementwise.sigmoid_gate(out + t * n_embd, b.gate + t * n_embd, n_embd); });
  }
  pass.release();
  return {};
}

}  // namespace

size_t channel_mix_floats(const ModelConfig& config) {
  Arena counter;
  take_buffers(counter, 1, config, mix_names(config.version).r != nullptr);
  const size_t inner = std::max(SparseFfn::floats(config), DeepEmbed::floats(config));
  return counter.most() + inner;
}

Result<std::unique_ptr<ChannelMix>> load_channel_mix(const Weights& weights,
                                                     const std::string& prefix) {
  auto mix = std::make_unique<ChannelMixImpl>();
  RWKV_TRY(mix->load(weights, prefix));
  return std::unique_ptr<ChannelMix>(std::move(mix));
}

}  // namespace rwkv::edge
