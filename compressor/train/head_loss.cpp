#include "compressor/train/head_loss.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

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

// A head, which may be held in fewer bits, as products take it: converted once, not per slice.
at::Tensor as_factor(const at::Tensor& head, Precision precision) {
  return head.detach().to(precision == Precision::Bf16 ? at::kBFloat16 : at::kFloat);
}

// Probabilities and their logarithms at the temperature.
struct Predictions {
  at::Tensor p, log_p;
};

struct Divergence {
  double sum = 0.0;
  at::Tensor grad;  ///< of the logits over the temperature
};

Divergence from_all(const at::Tensor& theirs, const Predictions& ours) {
  const at::Tensor p = theirs.exp();
  return {(p * (theirs - ours.log_p)).sum().item<double>(), ours.p - p};
}

// With q the student's probabilities and R the tokens that are not among the answers, the gradient
// is q_j - p_j for an answer, and q_j (1 - p_R / q_R) for a token of R.
Divergence from_top(const TopAnswers& top, const Predictions& ours) {
  constexpr double kLeast = 1e-30;
  const at::Tensor p = top.log_p.exp();
  const at::Tensor q = ours.p.gather(1, top.ids);
  at::Tensor others = ours.p.scatter(1, top.ids, 0.0);
  const at::Tensor p_rest = top.rest.unsqueeze(1).clamp_min(kLeast);
  const at::Tensor q_rest = others.sum(1, true).clamp_min(kLeast);
  Divergence result;
  result.sum = (p * (top.log_p - ours.log_p.gather(1, top.ids))).sum().item<double>() +
               (top.rest.unsqueeze(1) * (p_rest.log() - q_rest.log())).sum().item<double>();
  result.grad = others.mul_(1.0 - top.rest.unsqueeze(1) / q_rest).scatter_add_(1, top.ids, q - p);
  return result;
}

Divergence divergence(const TeacherHead& teacher, const at::Tensor& their_head, int64_t first,
                      int64_t rows, double t, Precision precision, const Predictions& ours) {
  if (!teacher.input.defined()) {
    return from_top(
        {teacher.top.ids.narrow(0, first, rows), teacher.top.log_p.narrow(0, first, rows),
         teacher.top.rest.narrow(0, first, rows)},
        ours);
  }
  return from_all(
      at::log_softmax(matmul(teacher.input.narrow(0, first, rows), their_head.t(), precision) / t,
                      1),
      ours);
}

}  // namespace

TopAnswers top_answers(const at::Tensor& input, const at::Tensor& head, int64_t k,
                       double temperature, Precision precision) {
  const at::NoGradGuard no_grad;
  const at::Tensor factor = as_factor(head, precision);
  const int64_t per_slice = std::max<int64_t>(1, kSliceNumbers / head.size(0));
  std::vector<at::Tensor> ids, log_p, rest;
  for (int64_t first = 0; first < input.size(0); first += per_slice) {
    const int64_t rows = std::min(per_slice, input.size(0) - first);
    const at::Tensor all = at::log_softmax(
        matmul(input.narrow(0, first, rows), factor.t(), precision) / temperature, 1);
    const auto [values, indices] = at::topk(all, k, 1);
    ids.push_back(indices);
    log_p.push_back(values);
    rest.push_back(all.exp().scatter_(1, indices, 0.0).sum(1));
  }
  return {at::cat(ids, 0), at::cat(log_p, 0), at::cat(rest, 0)};
}

HeadLoss head_loss(const at::Tensor& input, const at::Tensor& head, const at::Tensor& targets,
                   const TeacherHead* teacher, const HeadLossOptions& options, double scale,
                   const at::Tensor& weights) {
  const at::NoGradGuard no_grad;
  const int64_t n = input.size(0);
  const int64_t per_slice = std::max<int64_t>(1, kSliceNumbers / head.size(0));
  const bool needs_gradient = scale > 0;
  const double distill = teacher == nullptr ? 0.0 : options.distill;
  const double t = options.temperature;
  const at::Tensor factor = as_factor(head, options.precision);
  const at::Tensor their_head = distill > 0 && teacher->input.defined()
                                    ? as_factor(teacher->head, options.precision)
                                    : at::Tensor();
  HeadLoss loss;
  if (needs_gradient) {
    loss.grad_input = at::empty_like(input);
    loss.grad_head = options.head_is_fixed
                         ? at::Tensor()
                         : at::zeros(head.sizes(), head.options().dtype(at::kFloat));
  }
  for (int64_t first = 0; first < n; first += per_slice) {
    const int64_t rows = std::min(per_slice, n - first);
    const at::Tensor x = input.narrow(0, first, rows);
    const at::Tensor logits = matmul(x, factor.t(), options.precision);
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
      const at::Tensor ours = t == 1.0 ? log_p : at::log_softmax(logits / t, 1);
      const Divergence from =
          divergence(*teacher, their_head, first, rows, t, options.precision, {ours.exp(), ours});
      loss.divergence += t * t * from.sum;
      if (needs_gradient) {
        grad.add_(from.grad, scale * distill * t);
      }
    }
    if (needs_gradient) {
      if (weights.defined()) {
        grad.mul_(weights.narrow(0, first, rows).unsqueeze(1));
      }
      loss.grad_input.narrow(0, first, rows).copy_(matmul(grad, factor, options.precision));
      if (loss.grad_head.defined()) {
        loss.grad_head.add_(matmul(grad.t(), x, options.precision));
      }
    }
  }
  return loss;
}

}  // namespace rwkv::press
