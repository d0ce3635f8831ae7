// The scale that suits a group of weights best.
#pragma once

#include <cstdint>
#include <span>

#include "formats/codec/lut.h"

namespace rwkv::press {

inline constexpr int kMaxScale = 127;

/// The unit of a row whose largest weight is `largest`: its scales are integers times it, and reach
/// every size that best_scale() tries.
float unit_for(const LutCodebook& codebook, float largest);

/// The integer `scale` for which the nearest values of unit * scale * table are closest to `x`, by
/// the sum of weight * difference^2; `weights` has the size of `x`, or is empty, for 1. Tries 25
/// sizes, 0.55 to 1.15 of the one that reaches the largest |x|, with both signs, then the best fit
/// to the codes so found, and `also`. 0 if all of x is 0, or the unit is or cannot be divided by.
int best_scale(const LutCodebook& codebook, std::span<const float> x,
               std::span<const float> weights, float unit, int also);

/// The same for a scale that is a half float of its own, without a unit: what ggml's blocks have.
float best_half_scale(const LutCodebook& codebook, std::span<const float> x,
                      std::span<const float> weights, float also);

/// A scale as a half float holds it; the largest half float for what is beyond.
float half_scale(double scale);

}  // namespace rwkv::press
