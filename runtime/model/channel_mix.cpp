// channel_mix of all versions: k = relu(K x_k)^2, out = V k, gated by sigmoid(R x_r) before v7.
#include "runtime/model/block.h"
#include "runtime/model/elementwise.h"
#include "runtime/model/projection.h"
#include "runtime/model/sparse_ffn.h"

namespace rwkv::edge {
namespace {

class ChannelMixImpl final : public ChannelMix {
 public:
  Status load(const Weights& weights, const std::string& prefix);
  Status forward(Run& run, const float* x, float* out) const override;
  size_t max_rank() const override { return has_receptance_ ? receptance_.rank() : 0; }

 private:
  using MixFn = void (*)(const float*, const float*, const float*, float*, size_t, size_t);
  MixFn mix_ = mix_new;
  std::span<const float> mix_k_;
  std::span<const float> mix_r_;
  Projection receptance_;
  bool has_receptance_ = true;
  SparseFfn neurons_;
};

// The names of the mixing coefficients, which is all that differs besides receptance.
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
      return {"x_k", nullptr};
  }
  return {"", nullptr};
}

Status ChannelMixImpl::load(const Weights& weights, const std::string& prefix) {
  const Version version = weights.config().version;
  const MixNames names = mix_names(version);
  mix_ = version == Version::V6 || version == Version::V7 ? mix_previous : mix_new;
  has_receptance_ = names.r != nullptr;
  RWKV_ASSIGN(mix_k_, weights.vector(prefix + "ffn." + names.k));
  RWKV_TRY(neurons_.load(weights, prefix));
  if (has_receptance_) {
    RWKV_ASSIGN(mix_r_, weights.vector(prefix + "ffn." + names.r));
    RWKV_ASSIGN(receptance_, Projection::load(weights, prefix + "ffn.receptance"));
  }
  return {};
}

Status ChannelMixImpl::forward(Run& run, const float* x, float* out) const {
  const size_t n_embd = neurons_.n_embd();
  const size_t n_tokens = run.n_tokens;
  float* prev = run.take(n_embd);
  float* mixed = run.take(n_embd);
  float* gate = run.take(n_embd);
  token_shift(x, run.state.ffn_shift, prev, n_tokens, n_embd);

  mix_(x, prev, mix_k_.data(), mixed, n_tokens, n_embd);
  RWKV_TRY(neurons_.forward(run, mixed, out));
  if (has_receptance_) {
    mix_(x, prev, mix_r_.data(), mixed, n_tokens, n_embd);
    receptance_.apply(run, mixed, gate);
    for (size_t i = 0; i < n_tokens * n_embd; ++i) {
      out[i] *= sigmoid(gate[i]);
    }
  }
  run.release();
  return {};
}

}  // namespace

Result<std::unique_ptr<ChannelMix>> load_channel_mix(const Weights& weights,
                                                     const std::string& prefix) {
  auto mix = std::make_unique<ChannelMixImpl>();
  RWKV_TRY(mix->load(weights, prefix));
  return std::unique_ptr<ChannelMix>(std::move(mix));
}

Result<std::unique_ptr<TimeMix>> load_time_mix(const Weights& weights, const std::string& prefix) {
  switch (weights.config().version) {
    case Version::V4:
      return load_time_mix_v4(weights, prefix);
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      return load_time_mix_v5(weights, prefix);
    case Version::V6:
      return load_time_mix_v6(weights, prefix);
    case Version::V7:
      return load_time_mix_v7(weights, prefix);
  }
  return bad_input("unknown version");
}

}  // namespace rwkv::edge
