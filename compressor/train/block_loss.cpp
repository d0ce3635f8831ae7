#include "compressor/train/block_loss.h"

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// Squares below this share of their mean count as this: a head that forgets all has no error.
constexpr double kLeastShare = 0.01;
constexpr double kLeast = 1e-12;

// The mean of |a - b|^2 / |b|^2, squares summed over `dims`.
at::Tensor mean_share(const at::Tensor& a, const at::Tensor& b, at::IntArrayRef dims) {
  const at::Tensor squares = b.square().sum(dims);
  const double least = kLeast + kLeastShare * squares.mean().item<double>();
  return ((a - b).square().sum(dims) / squares.clamp_min(least)).mean();
}

// [n, head_size, dim_att] by heads; v4's average is one head.
at::Tensor by_head(const at::Tensor& wkv) {
  const int64_t size = wkv.size(1) == 1 ? wkv.size(2) : wkv.size(1);
  return wkv.reshape({wkv.size(0), wkv.size(1), -1, size});
}

}  // namespace

BlockValues BlockValues::to(const at::Device& device) const {
  const auto moved = [&](const at::Tensor& values) {
    return values.defined() ? values.to(device) : values;
  };
  return {moved(x), moved(v_first), {moved(state.wkv), moved(state.shift)}};
}

BlockErrors& BlockErrors::operator+=(const BlockErrors& other) {
  output += other.output;
  state += other.state;
  return *this;
}

double block_energy(const at::Tensor& x, const at::Tensor& before) {
  return mean_share(before, x, {2}).item<double>();
}

BlockLoss block_loss(const BlockValues& ours, const BlockValues& theirs, double energy,
                     double state_weight) {
  at::Tensor output = mean_share(ours.x, theirs.x, {2}) / (energy + kLeast);
  if (theirs.v_first.defined()) {
    output = output + mean_share(ours.v_first, theirs.v_first, {2});
  }
  const at::Tensor state = (mean_share(by_head(ours.state.wkv), by_head(theirs.state.wkv), {1, 3}) +
                            mean_share(ours.state.shift, theirs.state.shift, {2})) /
                           2;
  return {output + state * state_weight, {output.item<double>(), state.item<double>()}};
}

}  // namespace rwkv::press
