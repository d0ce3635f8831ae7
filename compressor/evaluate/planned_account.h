// What a packed model takes in memory and touches per token, on the runtime that devices run:
// foretold from a plan's shapes before there is a file, and measured with one.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>

#include "compressor/stages/plan.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/account/account.h"
#include "runtime/memory/options.h"

namespace rwkv::press {

/// Bytes that the tokenizer of a vocabulary takes; 0 without one.
Result<uint64_t> tokenizer_bytes(const std::optional<Vocabulary>& vocabulary);

/// The runtime's own account of the model that `plan` describes, opened with `options`: weights,
/// caches, tables, the state of one sequence, scratch memory of options.n_threads, tokenizer.
/// What the program itself takes is options.program_bytes. Shapes alone decide it.
Result<edge::Account> planned_account(const PackPlan& plan, uint64_t tokenizer_bytes,
                                      const edge::MemoryOptions& options);

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
