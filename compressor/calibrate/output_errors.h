// What a change of one matrix does to the model's predictions, from the inputs and gradients of its
// product alone: half the mean of (g d)^2, d the change of the output and g the gradient there
// (sensitivity.h). All in tiles of tokens: the same bits with any number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "compressor/low_rank/factorise.h"

namespace rwkv::press {

/// The product of one matrix over text.
struct ProductSeen {
  at::Tensor inputs;     ///< [positions, in], f32
  at::Tensor gradients;  ///< [positions, out]
};

/// What becomes of rare positions. A gradient is that of one drawn token, and a few improbable ones
/// can outweigh all others of a short text.
enum class Tail : uint8_t {
  Kept,
  Cut  ///< the two hundredth of the positions with most counts as much as the one before them
};

/// The mean of losses of positions, f64 [positions].
double mean_loss(const at::Tensor& positions, Tail tail);

/// Of rounding, whose errors at different outputs are independent: half the mean of the sum of
/// g_j^2 d_j^2. `change` [out, in]: the matrix that is new less the one that was.
double rounding_distance(const ProductSeen& seen, const at::Tensor& change, Tail tail = Tail::Kept);
/// Of any change, whose errors at different outputs may have one cause: half the mean of (g d)^2.
double joint_distance(const ProductSeen& seen, const at::Tensor& change, Tail tail = Tail::Kept);
/// The same as rounding_distance() for inputs that change by `change` [positions, n]; `gradients`
/// are those there.
double input_distance(const at::Tensor& gradients, const at::Tensor& change,
                      Tail tail = Tail::Kept);

/// Of a pair of each of `ranks` instead of the matrix `w` [out, in]: the leading parts of `whole`.
std::vector<double> pair_distances(const ProductSeen& seen, const at::Tensor& w,
                                   const Factors& whole, const std::vector<int64_t>& ranks,
                                   Tail tail = Tail::Kept);

/// KL(dense || other), nats per position, for each of `others`, the inputs of the head [n, n_embd]
/// that belong to `z`. `head` is the dense one, `other_head` that of the others.
std::vector<double> head_distances(const at::Tensor& z, const at::Tensor& head,
                                   const std::vector<at::Tensor>& others,
                                   const at::Tensor& other_head);

/// The head over text, of which some rows will change.
struct HeadSeen {
  at::Tensor z;         ///< its inputs, [positions, n_embd]
  at::Tensor log_sums;  ///< logarithms of the sums of exp(logits), f64 [positions]
  static HeadSeen of(const at::Tensor& z, const at::Tensor& head);
};
/// KL(head || changed), nats per position, exact: `rows` [n, n_embd] of the head become rows +
/// change.
double head_rows_distance(const HeadSeen& seen, const at::Tensor& rows, const at::Tensor& change);

/// Cross-entropy of the tokens `next` [n], nats per token.
double cross_entropy(const at::Tensor& z, const at::Tensor& head, const at::Tensor& next);

}  // namespace rwkv::press
