#include "compressor/quantizers/needs.h"

#include "compressor/quantizers/output_groups.h"

namespace rwkv::press {
namespace {

// The triangle of the inverse moments: Cholesky's, an inverse and another.
constexpr double kTriangle = 3;
// Products of moments and errors: feeding errors forward, and the sweeps of the refinement.
constexpr double kSweeps = 7;
// Operations for each weight while scales and codes are chosen.
constexpr double kOfWeight = 700;
// The matrix as weights, codes and values; moments as given, damped and triangular.
constexpr uint64_t kMatrices = 4;
constexpr uint64_t kMoments = 5;
// Of a logit: an exponential, and its cost.
constexpr double kOfLogit = 25;

}  // namespace

Needs learnt_needs(uint64_t rows, uint64_t cols, bool inputs_are_rows) {
  const uint64_t inputs = inputs_are_rows ? rows : cols;
  const auto n = static_cast<double>(inputs);
  const auto weights = static_cast<double>(rows * cols);
  Needs needs;
  needs.parallel.products = kTriangle * n * n * n + kSweeps * 2 * weights * n;
  needs.parallel.loops = kOfWeight * weights;
  needs.memory = sizeof(float) * (kMatrices * rows * cols + kMoments * inputs * inputs);
  return needs;
}

Needs output_groups_needs(uint64_t n_vocab, uint64_t inputs, uint64_t tokens, uint64_t asked) {
  const auto groups = static_cast<double>(OutputGroups::count_for(n_vocab, asked));
  const auto n = static_cast<double>(inputs);
  const double logits = static_cast<double>(tokens) * static_cast<double>(n_vocab);
  const double rows = OutputGroups::kIterations * static_cast<double>(n_vocab);
  Needs needs;
  needs.parallel.products =
      groups * (kTriangle * n * n * n + 2 * static_cast<double>(tokens) * n * n) +
      2 * rows * n * groups + 2 * logits * (n + groups);
  needs.parallel.loops = kOfLogit * logits;
  needs.memory = sizeof(float) * tokens * (inputs + static_cast<uint64_t>(groups));
  return needs;
}

}  // namespace rwkv::press
