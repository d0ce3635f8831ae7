#include "compressor/quantizers/input_moments.h"

#include <ATen/ops/linalg_cholesky_ex.h>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

constexpr double kDamping = 0.01;

}  // namespace

Result<InputMoments> InputMoments::of(const at::Tensor& moments, int64_t n) {
  if (moments.dim() != 2 || moments.size(0) != n || moments.size(1) != n) {
    return bad_input(
        "expected moments of {} inputs, found {}; calibrate this model again with "
        "rwkv-press calibrate",
        n, moments.size(0));
  }
  const at::Tensor diagonal = moments.diagonal();
  if (!at::isfinite(moments).all().item<bool>() || (diagonal < 0).any().item<bool>()) {
    return bad_input(
        "expected finite moments of its inputs, found NaN, infinity or a negative square; check "
        "the checkpoint's values and the text");
  }
  const double mean = diagonal.to(at::kDouble).mean().item<double>();
  InputMoments result;
  if (mean == 0) {
    result.damped = at::eye(n, at::kFloat);
    return result;
  }
  result.damped = moments.to(at::kFloat) / mean;
  result.damped.diagonal().add_(kDamping);
  return result;
}

Result<InputMoments::Triangle> InputMoments::triangle() const {
  const SingleThread one;
  // Backwards, since the factor that Cholesky gives is a lower triangle.
  auto [lower, info] = at::linalg_cholesky_ex(damped.to(at::kDouble).flip({0, 1}));
  if (info.item<int>() != 0) {
    return bad_input(
        "expected moments E[x x^T] of its inputs, found a matrix that is not positive definite; "
        "make the statistics again with rwkv-press calibrate");
  }
  const at::Tensor roots = lower.diagonal().clone();
  Triangle result;
  result.d = roots.square().flip({0}).to(at::kFloat).contiguous();
  result.factor = lower.div_(roots).to(at::kFloat).flip({0, 1}).contiguous();
  return result;
}

}  // namespace rwkv::press
