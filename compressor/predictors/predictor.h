// The predictor of one layer's channel_mix: which neurons a device has to read for a token. Fits
// both halves and their thresholds; writing them into a packed file is done elsewhere.
//
// channel_mix is k = K x, a = relu(k)^2, y = V a. A device reads the rows of K that the predictor
// names, computes their k exactly and reads only those columns of V whose a is not 0. A neuron
// that is missed counts as silent, so what is limited is the output energy of those missed.
#pragma once

#include "compressor/numerics/tensor_store.h"
#include "compressor/predictors/mlp_predictor.h"
#include "compressor/predictors/sign_predictor.h"
#include "compressor/predictors/thresholds.h"

namespace rwkv::press {

struct PredictorOptions {
  bool sign = true;
  bool mlp = true;
  double recall = 0.99;  ///< of the output energy, see Thresholds
  /// Bits of a weight of K and V as they are read, against which the bytes of the halves are
  /// weighed: the MLP has as many, the sign half one. A byte of a row, which is read by itself,
  /// counts twice. 0: only the number of named neurons counts.
  double row_bits = 0;
  MlpOptions mlp_options = {};
};

struct FfnPredictor {
  at::Tensor sign;        ///< [F, D] with two f16 levels per row, undefined if not requested
  MlpPredictor mlp;       ///< f16 values as f32, undefined if not requested
  Thresholds thresholds;  ///< set and measured on held-out tokens
};

/// `x` [n, D]: inputs of channel_mix (after token shift) at consecutive tokens; `key` [F, D];
/// `value_norms` [F]: ||V_j||. The last 20 % of the tokens are kept from both halves and serve to
/// set the thresholds; of the two ways to choose the levels of `sign` the one that costs less there
/// is taken. Where a threshold is the largest float that half does not help.
///
/// The result does not depend on the number of threads (numerics/threads.h).
/// Memory: some matrices of n/5 x F floats, at most 2^26 numbers each; more tokens are thinned out
/// evenly. See train_mlp for what training needs.
///
/// What training gives may be kept in a store: predictors of other recalls then share it.
///
/// Errors: as train_mlp and calibrate_thresholds; usage_error if neither half is requested.
Result<FfnPredictor> fit_predictor(const at::Tensor& x, const at::Tensor& key,
                                   const at::Tensor& value_norms, const PredictorOptions& options,
                                   const TensorStore& store = {});

}  // namespace rwkv::press
