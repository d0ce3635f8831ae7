// What a packed model will take in memory, on the runtime that devices run: predicted from a plan's
// shapes before there is a file. What a file takes is measured by packed_measure.h.
#pragma once

#include <cstdint>
#include <optional>

#include "compressor/stages/plan.h"
#include "formats/tokenizer/tokenizer.h"
#include "runtime/account/account.h"
#include "runtime/memory/options.h"
#include "runtime/memory/packed_file.h"
#include "runtime/memory/residency.h"

namespace rwkv::press {

/// Bytes that the tokenizer of a vocabulary takes; 0 without one.
Result<uint64_t> tokenizer_bytes(const std::optional<Vocabulary>& vocabulary);

/// The packed file that `plan` describes, as the runtime sees it; it has no bytes.
edge::PackedFile planned_file(const PackPlan& plan);

/// Where the runtime would hold the model that `plan` describes, opened with `options`. Its account
/// has weights, caches, tables, the state of one sequence, scratch memory of options.n_threads,
/// tokenizer. What the program itself takes is options.program_bytes. Shapes alone decide it. It is
/// not cut down to a limit, but a ring is the runtime's smallest if more would be held otherwise.
Result<edge::Residency> planned_residency(const PackPlan& plan, uint64_t tokenizer_bytes,
                                          const edge::MemoryOptions& options);
/// Its account alone.
Result<edge::Account> planned_account(const PackPlan& plan, uint64_t tokenizer_bytes,
                                      const edge::MemoryOptions& options);

}  // namespace rwkv::press
