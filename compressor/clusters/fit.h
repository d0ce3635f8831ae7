// The steps of fit_cluster_head: loss, closed form, training. Inputs are standardised on the way.
#pragma once

#include "compressor/clusters/cluster_head.h"
#include "compressor/clusters/standardize.h"

namespace rwkv::press {

/// z [n, D] as it was given, and ln P [n, K]; f32 and contiguous.
struct Samples {
  at::Tensor z, log_targets;

  int64_t count() const { return z.size(0); }
  Samples slice(int64_t first, int64_t n) const {
    return {z.narrow(0, first, n), log_targets.narrow(0, first, n)};
  }
};

/// Mean KL(P || softmax(weight s + bias)) in nats over samples, s = standard.apply(z).
double mean_kl(const ClusterHead& head, const Standard& standard, const Samples& samples);

/// The same against probabilities of 1 / K.
double mean_kl_of_uniform(const Samples& samples);

/// Ridge regression from s to ln P, least squares in double. Returns the head of the ridge with the
/// least KL on `held_out`, and sets report.ridge and report.kl_closed_form.
ClusterHead fit_closed_form(const Samples& train, const Samples& held_out, const Standard& standard,
                            ClusterHeadReport& report);

/// Adam from `start` on. Returns the best head on `held_out`, `start` included, and sets
/// report.kl_fitted and report.epochs; reads report.kl_closed_form.
ClusterHead train_cluster_head(const ClusterHead& start, const Samples& train,
                               const Samples& held_out, const Standard& standard,
                               const ClusterHeadOptions& options, ClusterHeadReport& report);

}  // namespace rwkv::press
