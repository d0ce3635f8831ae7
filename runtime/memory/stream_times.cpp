#include "runtime/memory/stream_times.h"

#include <algorithm>
#include <vector>

namespace rwkv::edge {
namespace {

// When the last of `n_tokens` began and when it was done.
struct LastToken {
  double from = 0;
  double until = 0;
};

LastToken simulate(std::span<const PieceTimes> pieces, std::span<const uint32_t> reaches,
                   size_t n_tokens) {
  const size_t n = pieces.size();
  std::vector<double> used(n * n_tokens);  // when each piece was no longer needed
  double read_until = 0;
  LastToken token;
  for (size_t i = 0; i < used.size(); ++i) {
    const PieceTimes& piece = pieces[i % n];
    token.from = i % n == 0 ? token.until : token.from;
    if (piece.read_seconds > 0) {
      const uint32_t reach = reaches[i % n];
      const double free = i >= reach ? used[i - reach] : 0.0;
      read_until = std::max(read_until, free) + piece.read_seconds;
      token.until = std::max(token.until, read_until);
    }
    token.until += piece.compute_seconds;
    used[i] = token.until;
  }
  return token;
}

}  // namespace

double seconds_per_token(std::span<const PieceTimes> pieces, std::span<const uint32_t> reaches) {
  constexpr size_t kTokens = 4;
  const LastToken token = simulate(pieces, reaches, kTokens);
  return token.until - token.from;
}

double seconds_of_first(std::span<const PieceTimes> pieces, std::span<const uint32_t> reaches) {
  return simulate(pieces, reaches, 1).until;
}

}  // namespace rwkv::edge
