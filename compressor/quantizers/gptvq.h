// GPTVQ (arXiv 2402.15319) with vectors of one number, which is the codebook half of RWKVQuant
// (arXiv 2505.03803): weights have codes into a codebook that a few hundred of them share. A
// baseline: no codec of ours holds a codebook for each few hundred weights, and the code of the
// paper has none either, so the values of its codes are packed in f16.
#pragma once

#include <memory>

#include "compressor/quantizers/quantizer.h"

namespace rwkv::press {

/// With the bits of the lut codec that is asked for. Codebooks by k-means when their first input is
/// reached, errors fed forward input by input, then all codebooks by least squares, where the
/// published code takes 25 steps of Adam. Matrices without a product, and other codecs, are rounded
/// as by `nearest`.
std::unique_ptr<Quantizer> make_gptvq_quantizer();

}  // namespace rwkv::press
