// How the next token is chosen from logits. The rules and their order are those of ChatRWKV's
// sampler, so that settings published for RWKV models mean the same here:
//   1. penalties: logit -= presence + count * frequency, for every token with a count above 0
//   2. probabilities = softmax(logits), without temperature
//   3. top-p keeps the fewest most probable tokens that add up to top_p or more, top-k keeps the k
//      most probable ones; with both, a token must pass both
//   4. temperature: the remaining probabilities to the power 1 / temperature, normalised
//   5. one draw, walking the kept tokens by ascending id
// Tokens of equal probability rank by id, lowest first. (ChatRWKV keeps everything that ties with
// the last token of top-p; here a run is never longer than needed.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::edge {

struct SamplerOptions {
  float temperature = 1.0f;  ///< 0 or more; 0 takes the most probable token (as does top_k 1)
  int top_k = 0;             ///< 0 is off
  float top_p = 1.0f;        ///< above 0, at most 1; 1 is off
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float penalty_decay = 0.996f;  ///< from 0 to 1: factor of all counts at each accepted token
  uint64_t seed = 0;
};

/// What programs for people sample with unless they are told otherwise: top-p 0.85, as ChatRWKV.
/// SamplerOptions itself, and with it the C API, cuts nothing off.
constexpr SamplerOptions default_sampling() {
  SamplerOptions options;
  options.top_p = 0.85f;
  return options;
}

/// Usage if an option is out of range; the message gives its name, its range and the value found.
Status check(const SamplerOptions& options);

/// BadInput if a logit is NaN or plus infinity, or all are minus infinity: nothing sensible can be
/// chosen then. Names the first such token and says what to do.
Status check_logits(std::span<const float> logits);

/// Picks tokens; one per sequence. The same options and the same logits give the same tokens
/// everywhere (except for a draw that falls within the rounding of exp()): the generator is our
/// own. Only the constructor allocates: for each token of the vocabulary 8 bytes if there are
/// penalties and 4 if there is top-k or top-p. Not safe to share between threads.
class Sampler {
 public:
  /// `options` must pass check().
  Sampler(size_t n_vocab, const SamplerOptions& options);

  /// A token from `logits`, which holds n_vocab floats and is overwritten. NaN counts as minus
  /// infinity, plus infinity as the largest float; if no token remains, the result is token 0. Does
  /// not count the token: call accept() with the token that became part of the text.
  int32_t sample(std::span<float> logits);

  /// Decays all counts, then counts `token`. An id outside the vocabulary is not counted.
  void accept(int32_t token);

  /// Back to the state after construction: no counts, the generator at the seed.
  void reset();

 private:
  /// The last token that is kept, in order of rank.
  struct Cut {
    float logit;
    int32_t id;
  };

  void apply_penalties(std::span<float> logits) const;
  Cut find_cut(std::span<const float> logits, float best);
  int32_t draw(std::span<float> weights);
  double next_uniform();

  size_t n_vocab_;
  SamplerOptions options_;
  uint64_t state_;
  std::vector<float> counts_;        ///< by token; empty without penalties
  std::vector<int32_t> counted_;     ///< the tokens whose count is above 0
  std::vector<int32_t> candidates_;  ///< scratch of find_cut; empty without top-k and top-p
};

}  // namespace rwkv::edge
