// The choice of a mode and its caches within a memory limit.
#pragma once

#include "runtime/memory/placement.h"

namespace rwkv::edge {

/// What a mode is without a limit.
Choice first_choice(MemoryMode mode, const MemoryOptions& options);

/// The richest choice within options.limit: see residency_for().
Result<Choice> choice_within_limit(const Planner& planner, const PackedFile& file,
                                   const MemoryOptions& options);

/// `choice` of mode streamed, with as much in memory of what is streamed as options.limit allows;
/// all of it without a limit. Usage if not even none of it fits.
Result<Choice> kept_within_limit(const Planner& planner, const PackedFile& file, Choice choice,
                                 const MemoryOptions& options);

/// The largest share for which there is room, if there is for none of it; 0 if not even that. By
/// bisection, since bytes are rounded in many places.
template <typename F>
double largest_share(const F& has_room, int halvings = 20) {
  if (has_room(1.0)) {
    return 1.0;
  }
  double low = 0.0;
  double high = 1.0;
  for (int i = 0; i < halvings; ++i) {
    const double half = (low + high) / 2;
    (has_room(half) ? low : high) = half;
  }
  return low;
}

}  // namespace rwkv::edge
