// The loss of a model: cross-entropy with the text, or with a teacher's predictions, computed from
// the input of the head. Logits are computed for a slice of the tokens at a time, so that a batch
// over a vocabulary of 65,536 needs megabytes and not gigabytes; hence gradients are computed here
// and not by LibTorch.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressor/model/linear.h"

namespace rwkv::press {

/// A teacher's side: logits are input x head transposed, over the same vocabulary.
struct TeacherHead {
  at::Tensor input;  ///< [n, n_embd of the teacher]
  at::Tensor head;   ///< [n_vocab, n_embd of the teacher]
};

struct HeadLossOptions {
  double distill = 0.0;  ///< weight of the teacher's predictions; 1 - distill is that of the text
  double temperature = 1.0;
  Precision precision = Precision::F32;
};

struct HeadLoss {
  double cross_entropy = 0.0;  ///< nats, summed over tokens
  double divergence = 0.0;     ///< KL(teacher || student) at the temperature, times its square
  at::Tensor grad_input;       ///< [n, n_embd], of scale * weighted sum; undefined unless requested
  at::Tensor grad_head;        ///< [n_vocab, n_embd]
};

/// input [n, n_embd], head [n_vocab, n_embd], targets int64 [n]. `teacher` may be null: distill is
/// then 0. The loss is, summed over tokens (Hinton et al., arXiv 1503.02531, equation 1 and the
/// factor T^2 of section 2):
///   (1 - distill) * CE(targets) + distill * T^2 * KL(softmax(teacher / T) || softmax(student / T))
/// and with `scale` above 0 its gradients times `scale` are given. `weights` [n], if defined, weigh
/// the tokens in the gradients; the losses stay plain sums.
HeadLoss head_loss(const at::Tensor& input, const at::Tensor& head, const at::Tensor& targets,
                   const TeacherHead* teacher, const HeadLossOptions& options, double scale,
                   const at::Tensor& weights = {});

}  // namespace rwkv::press
