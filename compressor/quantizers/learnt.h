// Quantizers that learn from text, for the lut codecs. With H the moments E[x x^T] of a product's
// inputs and D the errors of its weights, they lower tr(D H D^T), the error of its outputs.
// Matrices without a product, and other codecs, are rounded as by `nearest`.
#pragma once

#include <memory>

#include "compressor/quantizers/quantizer.h"

namespace rwkv::press {

/// Rounds to nearest; scales by squared errors times the mean squares of the inputs.
std::unique_ptr<Quantizer> make_weighted_quantizer();
/// GPTQ: each input makes up for the errors of those before it.
std::unique_ptr<Quantizer> make_gptq_quantizer();
/// GPTQ with evenly spaced values instead of the codec's table: the scalar quantizer of RWKVQuant
/// (arXiv 2505.03803), with a scale but no zero point for a group. A baseline.
std::unique_ptr<Quantizer> make_gptq_uniform_quantizer();
/// GPTQ with a table learnt for each matrix by weighted k-means: gptvq as far as a lut codec holds
/// it, with one codebook for the matrix and a scale for each group instead of a codebook for each.
std::unique_ptr<Quantizer> make_gptvq_table_quantizer();
/// GPTQ, then scales by least squares and codes by coordinate descent, in turn. Outputs of the head
/// that are similar have moments of their own, if there are groups.
std::unique_ptr<Quantizer> make_refined_quantizer();

}  // namespace rwkv::press
