#include "compressor/predictors/needs.h"

#include <algorithm>

namespace rwkv::press {
namespace {

// The most scores that thresholds are set on, and the most targets of the MLP's training: as in
// predictor.cpp and mlp_predictor.cpp.
constexpr double kMostScores = 1 << 26;
constexpr double kMostTargets = 1 << 28;
// Operations for each score: exponentials and powers of targets; a step's sigmoid and weights; what
// a search for a threshold, or for a pair of them, does.
constexpr double kOfTarget = 120;
constexpr double kOfStep = 60;
constexpr double kOfSearch = 300;
constexpr double kOfPairSearch = 1200;
// Matrices of scores in f32 that are held while thresholds are set.
constexpr double kScoresHeld = 7;

}  // namespace

Needs predictor_needs(const PredictorShape& shape, const PredictorOptions& options) {
  const auto d = static_cast<double>(shape.channels);
  const auto f = static_cast<double>(shape.neurons);
  const auto n = static_cast<double>(shape.tokens);
  const double held_out = std::min(n / 5, std::max(1.0, kMostScores / f));
  double memory = kScoresHeld * held_out * f * sizeof(float);
  Needs needs;
  Effort& work = needs.parallel;
  work.products += 2 * held_out * f * d;
  if (options.mlp) {
    const auto h = static_cast<double>(options.mlp_options.hidden);
    const auto epochs = static_cast<double>(options.mlp_options.epochs);
    const double train = std::min(n * 4 / 5 * 9 / 10, std::max(256.0, kMostTargets / f));
    // Forwards, and the three products of the gradients.
    work.products +=
        train * (2 * d * f + epochs * 2 * h * (2 * d + 3 * f)) + 2 * held_out * h * (d + f);
    work.loops += train * f * (kOfTarget + epochs * kOfStep) + held_out * f * kOfSearch;
    memory = std::max(memory, train * (f * 2 + d * 3 * sizeof(float)));
    needs.disk += static_cast<uint64_t>(sizeof(float) * h * (d + f));
  }
  if (options.sign) {
    // Two candidates: levels fitted to the moments, and plain ones.
    work.products += 2 * n * d * d + 2 * f * d * d + 2 * 2 * held_out * f * d;
    work.loops += 2 * held_out * f * (kOfSearch + (options.mlp ? kOfPairSearch : 0)) + 40 * f * d;
    memory += sizeof(float) * 5 * f * d;
    needs.disk += static_cast<uint64_t>(sizeof(float) * f * d);
  }
  needs.memory = static_cast<uint64_t>(memory);
  return needs;
}

}  // namespace rwkv::press
