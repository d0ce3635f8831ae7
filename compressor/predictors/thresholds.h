// Thresholds of a predictor: how high the scores of a neuron of channel_mix must be for it to be
// named, so that few neurons are named and little of the layer's output is lost.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "formats/base/status.h"

namespace rwkv::press {

/// Scores [n, F] of n tokens and F neurons. A half that is not used stays undefined.
struct PredictorScores {
  at::Tensor sign, mlp;
};

/// What the halves themselves cost to read for a token, in the unit of Thresholds::loaded: the rows
/// of all neurons.
struct HalfCosts {
  double sign = 0;
  double mlp = 0;
};

/// A neuron is named iff its sign score is above `sign` or its MLP score is above `mlp`. The
/// largest float switches a half off (that half is then worth nothing and need not be stored), the
/// lowest names everything.
///
/// With the output energy e_j = a_j^2 ||V_j||^2 = relu(k_j)^4 ||V_j||^2 of neuron j, recall is the
/// mean over tokens of the energy of named neurons / the energy of all (1 where all are silent).
struct Thresholds {
  float sign = 0;
  float mlp = 0;
  double recall = 0;  ///< share of output energy kept
  double loaded = 0;  ///< mean share of neurons named
  double active = 0;  ///< mean share of neurons with k > 0
  double cost = 0;    ///< loaded, and the costs of the halves that are used
};

/// The thresholds of the least cost among those with a recall of at least `target` on these
/// tokens; without costs of the halves, those that name fewest neurons: `key_outputs` [n, F] are
/// the exact k, `value_norms` [F] the ||V_j||. Exact for a half by itself; with both halves the
/// sign threshold is searched on a grid that is refined once, and the result is never worse than
/// the better half alone. The paper (RWKV-Lite, arXiv 2412.10856) sets thresholds by hand and does
/// not look at energies.
///
/// Errors: usage_error for a target outside (0, 1], no scores or shapes that do not fit; bad_input
/// for numbers that are not finite.
Result<Thresholds> calibrate_thresholds(const at::Tensor& key_outputs,
                                        const at::Tensor& value_norms,
                                        const PredictorScores& scores, double target,
                                        const HalfCosts& costs = {});

/// Shares of the output energy of each token, [n, F], 0 where a token has none: what
/// calibrate_thresholds counts, and what the MLP is trained for.
at::Tensor energy_shares(const at::Tensor& key_outputs, const at::Tensor& value_norms);

}  // namespace rwkv::press
