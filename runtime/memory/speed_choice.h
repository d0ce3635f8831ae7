// The choice of what stays in memory, and of the widths of pieces, for a speed or for a first
// token.
#pragma once

#include <functional>

#include "runtime/memory/placement.h"

namespace rwkv::edge {

/// The best choice of mode streamed within the limit of some options, which differ from those of
/// the search in StreamOptions::weight_bytes.
using WithinLimit = std::function<Result<Choice>(const MemoryOptions& options)>;

/// The choice that reaches options.stream.tokens_per_second as predicted: at full width if it can,
/// else at the largest widths that do, within a budget of B = R + BW * T bytes (T the seconds of a
/// token). Without `within_limit`, the least memory that does. Usage, naming what can be reached,
/// if the speed cannot, or the device is not known.
Result<Choice> choice_of_speed(const Planner& planner, const PackedFile& file,
                               const MemoryOptions& options, const WithinLimit& within_limit);

/// Gives `choice` the largest early widths that reach options.stream.first_token_seconds. Usage,
/// naming what can be reached, if none do.
Status choose_early_widths(const Planner& planner, const PackedFile& file,
                           const MemoryOptions& options, Choice& choice);

}  // namespace rwkv::edge
