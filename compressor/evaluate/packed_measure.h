// What a packed file takes in memory and touches per token, how fast it decodes and how well it
// predicts, measured on the runtime that devices run.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "formats/base/status.h"
#include "runtime/memory/options.h"

namespace rwkv::press {

struct PackedMeasure {
  double nats_per_token = 0;     ///< over all sequences, each from the empty state
  double standard_error = 0;     ///< of it, tokens taken as independent
  double kl = 0;                 ///< KL(reference || model), nats per token; 0 without a reference
  uint64_t resident = 0;         ///< the account's total
  double touched_per_token = 0;  ///< bytes of weights that decoding a token uses, on average
  double tokens_per_second = 0;  ///< of decoding, one token at a time; the only figure with a clock
};

/// The packed file at `path`, opened with `options`, on token sequences int64 [samples, length].
/// `reference`: another packed file of the same vocabulary to compare with, or empty.
Result<PackedMeasure> measure_packed(const std::string& path, const at::Tensor& tokens,
                                     const edge::MemoryOptions& options,
                                     const std::string& reference = {});

}  // namespace rwkv::press
