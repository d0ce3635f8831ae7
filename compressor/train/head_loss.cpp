#include "compressor/train/head_loss.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// Numbers in a slice's logits: 32 MB.
constexpr int64_t kSliceNumbers = int64_t{1} << 23;

at::Tensor matmul(const at::Tensor& a, const at::Tensor& b, Precision precision) {
  return precision == Precision::Bf16
             ? at::mm(a.to(at::kBFloat16), b.to(at::kBFloat16)).to(at::kFloat)
             : at::mm(a, b);
}

}  // namespace

HeadLoss head_loss(const at::Tensor& input, const at::Tensor& head, const at::Tensor& targets,
                   const TeacherHead* teacher, const HeadLossOptions& options, double scale,
                   const at::Tensor& weights) {
  const at::NoGradGuard no_grad;
  const int64_t n = input.size(0);
  const int64_t per_slice = std::max<int64_t>(1, kSliceNumbers / head.size(0));
  const bool needs_gradient = scale > 0;
  const double distill = teacher == nullptr ? 0.0 : options.distill;
  const double t = options.temperature;
  HeadLoss loss;
  if (needs_gradient) {
    loss.grad_input = at::empty_like(input);
    loss.grad_head = at::zeros_like(head);
  }
  for (int64_t first = 0; first < n; first += per_slice) {
    const int64_t rows = std::min(per_slice, n - first);
    const at::Tensor x = input.narrow(0, first, rows);
    const at::Tensor logits = matmul(x, head.t(), options.precision);
    const at::Tensor target = targets.narrow(0, first, rows).unsqueeze(1);
    const at::Tensor log_p = at::log_softmax(logits, 1);
    loss.cross_entropy -= log_p.gather(1, target).sum().item<double>();
    at::Tensor grad;
    if (needs_gradient) {
      grad = log_p.exp();
      grad.scatter_add_(1, target, at::full_like(target, -1, grad.options()));
      grad.mul_(scale * (1.0 - distill));
    }
    if (distill > 0) {
      const at::Tensor theirs = at::log_softmax(
          matmul(teacher->input.narrow(0, first, rows), teacher->head.t(), options.precision) / t,
          1);
      const at::Tensor ours = t == 1.0 ? log_p : at::log_softmax(logits / t, 1);
      const at::Tensor p = theirs.exp();
      loss.divergence += t * t * (p * (theirs - ours)).sum().item<double>();
      if (needs_gradient) {
        grad.add_(ours.exp().sub_(p), scale * distill * t);
      }
    }
    if (needs_gradient) {
      if (weights.defined()) {
        grad.mul_(weights.narrow(0, first, rows).unsqueeze(1));
      }
      loss.grad_input.narrow(0, first, rows).copy_(matmul(grad, head, options.precision));
      loss.grad_head.add_(matmul(grad.t(), x, options.precision));
    }
  }
  return loss;
}

}  // namespace rwkv::press
