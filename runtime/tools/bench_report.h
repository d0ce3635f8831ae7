// Figures of bench as JSON, with the keys of --json.
#pragma once

#include <nlohmann/json.hpp>

#include "runtime/bench/measure.h"

namespace rwkv::edge {

/// The figures of one model and number of threads.
nlohmann::ordered_json bench_row(unsigned n_threads, const Spread& decode, size_t n_decoded,
                                 const Spread& prefill, int64_t n_prompt, uint64_t bytes);

}  // namespace rwkv::edge
