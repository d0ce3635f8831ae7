// A ratio of sums over consecutive tokens, with a standard error that allows for neighbours being
// alike. What tokens cost depends on the passage they stand in, so taken one by one they look surer
// than they are. Instead they are added up in blocks, and blocks are taken as independent: the
// method of batch means, with blocks of floor(sqrt(n)) of n tokens (Flegal and Jones, "Batch means
// and spectral variance estimators in Markov chain Monte Carlo", Annals of Statistics 38, 2010).
//   ratio R = sum N_i / sum D_i over blocks i = 1 .. a
//   standard error = sqrt(a / (a - 1) * sum (N_i - R D_i)^2) / sum D_i
// which is the linearised ratio estimator (Cochran, "Sampling Techniques", 3rd ed., 6.3); with
// denominators of 1 it is a mean over tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "compressor/evaluate/confidence.h"

namespace rwkv::press {

class BlockRatio {
 public:
  /// For `n` pairs that are to come; decides the length of blocks.
  explicit BlockRatio(uint64_t n);

  void add(double numerator, double denominator = 1.0);
  /// Of what was added so far, a last block that is not full included. The standard error is NaN
  /// with fewer than two blocks.
  Estimate estimate() const;
  uint64_t block_length() const { return length_; }

 private:
  struct Sums {
    double numerator = 0.0;
    double denominator = 0.0;
  };
  uint64_t length_;
  uint64_t in_last_ = 0;  ///< pairs in the last block
  std::vector<Sums> blocks_;
};

}  // namespace rwkv::press
