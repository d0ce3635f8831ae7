// The mixing vectors of time_mix rounded to a few values, as RWKVQuant does. They are a few hundred
// thousandths of a model, so this saves next to nothing; it is there to measure what it costs.
#pragma once

#include "compressor/stages/work.h"

namespace rwkv::press {

/// How the values of a vector are found.
enum class MixingRounding : uint8_t {
  Off,
  Even,     ///< at equal distances from the least to the greatest
  KMeans,   ///< by k-means
  Weighted  ///< the same, each element weighted with what its error does to the mixed inputs
};

/// Rounds each mixing vector of time_mix to `n_values` values of its own, in work.source; it stays
/// f32. With Weighted, the weight of an element is the mean square of x_t - x_(t-1), which is what
/// its error is multiplied with, over the text of work.calibration. One block is in memory at a
/// time. Reports the mean error.
Status round_mixing_vectors(Work& work, MixingRounding how, uint64_t n_values);

}  // namespace rwkv::press
