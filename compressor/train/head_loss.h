// The loss of a model: cross-entropy with the text, or with a teacher's predictions, computed from
// the input of the head. Logits are computed for a slice of the tokens at a time, so that a batch
// over a vocabulary of 65,536 needs megabytes and not gigabytes; hence gradients are computed here
// and not by LibTorch.
#pragma once

#include <ATen/core/Tensor.h>

#include "compressor/model/linear.h"

namespace rwkv::press {

/// The likeliest tokens of a teacher's predictions, and what is left for all others together.
struct TopAnswers {
  at::Tensor ids;    ///< int64 [n, k], distinct in a row
  at::Tensor log_p;  ///< f32 [n, k], at the temperature of the loss
  at::Tensor rest;   ///< f32 [n]: the probability of all other tokens
};

/// A teacher's side over the same vocabulary: logits, which are input x head transposed, or its
/// likeliest answers.
struct TeacherHead {
  at::Tensor input;  ///< [n, n_embd of the teacher]; undefined: the answers
  at::Tensor head;   ///< [n_vocab, n_embd of the teacher]
  TopAnswers top = {};
};

/// The `k` likeliest tokens of softmax(input x head transposed / temperature), computed in slices.
TopAnswers top_answers(const at::Tensor& input, const at::Tensor& head, int64_t k,
                       double temperature, Precision precision);

struct HeadLossOptions {
  double distill = 0.0;  ///< weight of the teacher's predictions; 1 - distill is that of the text
  double temperature = 1.0;
  Precision precision = Precision::F32;
  bool head_is_fixed = false;  ///< no gradient of the head is computed
};

struct HeadLoss {
  double cross_entropy = 0.0;  ///< nats, summed over tokens
  double divergence = 0.0;     ///< KL(teacher || student) at the temperature, times its square
  at::Tensor grad_input;       ///< [n, n_embd], of scale * weighted sum; undefined unless requested
  at::Tensor grad_head;  ///< [n_vocab, n_embd]; undefined unless requested, and if it is fixed
};

/// input [n, n_embd], head [n_vocab, n_embd], targets int64 [n]. `teacher` may be null: distill is
/// then 0. The loss is, summed over tokens (Hinton et al., arXiv 1503.02531, equation 1 and the
/// factor T^2 of section 2):
///   (1 - distill) * CE(targets) + distill * T^2 * KL(softmax(teacher / T) || softmax(student / T))
/// and with `scale` above 0 its gradients times `scale` are given. `weights` [n], if defined, weigh
/// the tokens in the gradients; the losses stay plain sums. With a teacher's top answers the
/// divergence is that of the k tokens and of one more outcome, all other tokens: at most the whole
/// one, and the same if k is the vocabulary's size.
HeadLoss head_loss(const at::Tensor& input, const at::Tensor& head, const at::Tensor& targets,
                   const TeacherHead* teacher, const HeadLossOptions& options, double scale,
                   const at::Tensor& weights = {});

}  // namespace rwkv::press
