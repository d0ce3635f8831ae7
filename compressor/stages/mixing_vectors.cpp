#include "compressor/stages/mixing_vectors.h"

#include <algorithm>

#include "compressor/model/elementwise.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/quantizers/codebook.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {
namespace {

// v4 and v5, v6, v7.
constexpr std::array<std::string_view, 3> kMixing = {".att.time_mix_", ".att.time_maa_", ".att.x_"};

bool is_mixing(const TensorBinding& binding) {
  return binding.role == Role::Vector &&
         std::any_of(kMixing.begin(), kMixing.end(), [&](std::string_view part) {
           return binding.name.find(part) != std::string::npos;
         });
}

std::vector<float> even_values(const std::vector<WeightedValue>& points, uint64_t n) {
  const auto [least, most] = std::minmax_element(
      points.begin(), points.end(),
      [](const WeightedValue& a, const WeightedValue& b) { return a.value < b.value; });
  std::vector<float> values;
  for (uint64_t i = 0; i < n; ++i) {
    const float share = static_cast<float>(i) / static_cast<float>(n - 1);
    values.push_back(least->value + share * (most->value - least->value));
  }
  return values;
}

class MixingRounder {
 public:
  MixingRounder(Work& work, MixingRounding how, uint64_t n_values)
      : work_(work), how_(how), n_values_(n_values) {}

  Status run() {
    const bool has_weights = how_ == MixingRounding::Weighted;
    const BlockWalk walk{
        .source = *work_.source,
        .config = work_.plan.config,
        .calibration = has_weights ? &*work_.calibration : nullptr,
        .activations = has_weights ? Activations::AfterChanges : Activations::None,
        .progress = [&](double share) { work_.progress("mixing vectors", share); }};
    RWKV_TRY(walk.run([&](BlockVisit& here) { return visit(here); }).status());
    work_.report(
        fmt::format("quantize: {} mixing vectors of {} values, {:.3f} % of their energy lost",
                    n_vectors_, n_values_, lost_ > 0 ? 100 * lost_ / energy_ : 0.0));
    return {};
  }

 private:
  Status visit(BlockVisit& here) {
    RWKV_ASSIGN(const at::Tensor weights, weights_of(here));
    for (const PlannedTensor& tensor : work_.plan.tensors) {
      if (tensor.binding.block == here.index && is_mixing(tensor.binding)) {
        RWKV_TRY(round(tensor.binding.name, weights).in("tensor '" + tensor.binding.name + "'"));
      }
    }
    return {};
  }

  // Mean squares of x_t - x_(t-1), f32 [n_embd]; undefined: 1.
  Result<at::Tensor> weights_of(const BlockVisit& here) const {
    if (here.walk == nullptr) {
      return at::Tensor();
    }
    RWKV_ASSIGN(const LayerNorm ln1, load_layer_norm(NamedTensors(*work_.source),
                                                     fmt::format("blocks.{}.ln1", here.index)));
    const at::Tensor x = ln1.apply(here.walk->hidden());
    return (x - token_shift(x, work_.calibration->tokens.size(1))).square().mean(0);
  }

  Status round(const std::string& name, const at::Tensor& weights) {
    RWKV_ASSIGN(const at::Tensor own, load_named(*work_.source, name));
    const at::Tensor vector = own.contiguous();
    const float* const values = vector.data_ptr<float>();
    const auto n = static_cast<size_t>(vector.numel());
    RWKV_TRY(check_finite({values, n}, {1, n}, 1e18f, "f32"));
    std::vector<WeightedValue> points;
    for (size_t i = 0; i < n; ++i) {
      points.push_back({values[i], weights.defined() ? weights.data_ptr<float>()[i] : 1.0f});
    }
    const std::vector<WeightedValue> in_order = points;
    const std::vector<float> few = how_ == MixingRounding::Even
                                       ? even_values(points, n_values_)
                                       : centroids_of(points, static_cast<int64_t>(n_values_));
    const at::Tensor rounded = at::empty_like(vector);
    for (size_t i = 0; i < n; ++i) {
      const float now = few[nearest_of(few, values[i])];
      const auto weight = static_cast<double>(in_order[i].weight);
      const double value = static_cast<double>(values[i]);
      rounded.data_ptr<float>()[i] = now;
      lost_ += weight * (static_cast<double>(now) - value) * (static_cast<double>(now) - value);
      energy_ += weight * value * value;
    }
    ++n_vectors_;
    return work_.replace(name, rounded);
  }

  Work& work_;
  MixingRounding how_;
  uint64_t n_values_;
  double lost_ = 0;
  double energy_ = 0;
  int64_t n_vectors_ = 0;
};

}  // namespace

Status round_mixing_vectors(Work& work, MixingRounding how, uint64_t n_values) {
  return how == MixingRounding::Off ? Status() : MixingRounder(work, how, n_values).run();
}

}  // namespace rwkv::press
