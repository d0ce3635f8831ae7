#include "runtime/tools/bench_report.h"

namespace rwkv::edge {

nlohmann::ordered_json bench_row(unsigned n_threads, const Spread& decode, size_t n_decoded,
                                 const Spread& prefill, int64_t n_prompt, uint64_t bytes) {
  return {{"threads", n_threads},
          {"decode_tokens_per_s", decode.median},
          {"decode_min", decode.min},
          {"decode_max", decode.max},
          {"decode_n", n_decoded},
          {"prefill_tokens_per_s", prefill.median},
          {"prefill_min", prefill.min},
          {"prefill_max", prefill.max},
          {"prefill_tokens", n_prompt},
          {"touched_bytes_per_token", bytes},
          {"decode_gb_per_s", decode.median * static_cast<double>(bytes) * 1e-9}};
}

}  // namespace rwkv::edge
