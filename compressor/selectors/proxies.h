// What RWKVQuant (arXiv 2505.03803) reads off the weights of a matrix to choose its quantizer: the
// coarse and the fine proxy of section 3.2, which grow with the unevenness of the weights, and the
// crest factor, by which its published code chooses.
#pragma once

#include <span>

namespace rwkv::press {

/// Of the n gaps between neighbours of the sorted weights, p being their shares of the whole range.
struct GapProxies {
  /// ln n less the entropy of p: 0 if the weights are evenly spaced.
  double coarse = 0;
  /// With e = n p - 1: mean(e^2) / 2 + |mean(e^3)| / 6 + mean(e^4) / 12, the terms of orders 2 to 4
  /// of `coarse` around even spacing.
  double fine = 0;
};

struct Proxies {
  GapProxies literal;  ///< as the text says: all gaps
  /// As the code computes them: weights as half floats, each size of gap once, without 0.
  GapProxies unique;
  double crest = 0;  ///< largest magnitude / root mean square
};

/// Of finite weights. All zero if there are fewer than two different weights; in double.
Proxies proxies_of(std::span<const float> weights);

}  // namespace rwkv::press
