// What fitting the predictor of one layer takes, from shapes alone.
#pragma once

#include <cstdint>

#include "compressor/numerics/needs.h"
#include "compressor/predictors/predictor.h"

namespace rwkv::press {

struct PredictorShape {
  uint64_t tokens = 0;    ///< n
  uint64_t channels = 0;  ///< D
  uint64_t neurons = 0;   ///< F
};
/// Of fit_predictor(): memory besides its arguments, work, and as `disk` the bytes of its result
/// in f32.
Needs predictor_needs(const PredictorShape& shape, const PredictorOptions& options);

}  // namespace rwkv::press
