// How long a token takes whose weights are read while it is computed, piece by piece: the thread
// that reads and those that compute, simulated.
#pragma once

#include <cstdint>
#include <span>

namespace rwkv::edge {

/// A piece in the order of use.
struct PieceTimes {
  double read_seconds = 0;  ///< 0: it is in memory
  double compute_seconds = 0;
};

/// Seconds of a token in the long run. `reaches` as reaches_of() gives them, of all pieces: a piece
/// is read once the one so many before it is no longer needed. Several tokens are simulated, of
/// which the last finds the ring as it will always be.
double seconds_per_token(std::span<const PieceTimes> pieces, std::span<const uint32_t> reaches);

/// Seconds of the very first token, of which nothing was read before.
double seconds_of_first(std::span<const PieceTimes> pieces, std::span<const uint32_t> reaches);

}  // namespace rwkv::edge
