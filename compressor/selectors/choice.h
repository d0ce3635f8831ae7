// From what is known of each matrix to a choice between its two quantizers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compressor/selectors/proxies.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// What a choice follows.
enum class Selector : uint8_t {
  None,
  Proxy,        ///< Proxies::literal
  ProxyUnique,  ///< Proxies::unique
  Crest,
  OutputError,  ///< measured, of the matrix's own outputs
  Kl            ///< measured, of the whole model's predictions
};

/// Of one quantizer for a matrix.
struct CandidateCost {
  double loss = 0;  ///< by what OutputError or Kl compare; unused by the others
  uint64_t bytes = 0;
};

/// One matrix.
struct SelectorInput {
  Proxies proxies;
  CandidateCost scalar;
  CandidateCost codebook;
};

struct SelectorRule {
  Selector selector = Selector::Proxy;
  /// Proxies: a matrix gets the scalar quantizer if its coarse proxy is among the lowest share
  /// `coarse` of all, and then its fine one among the lowest share `fine` of those. Crest: if it is
  /// among the lowest share `coarse`. Thresholds by rank do not depend on the scale of proxies,
  /// which changes with the type and the number of the weights.
  double coarse = 0.5;
  double fine = 0.2;
  /// Bytes that all matrices together may take; 0: any. The dearer of two quantizers then goes to
  /// those matrices that the selector holds the most urgent, as far as it reaches.
  uint64_t budget = 0;
};

/// Whether each matrix gets the codebook. Equal values are ranked in the order of the list. Usage
/// if the budget does not hold the cheaper quantizer of each.
Result<std::vector<bool>> choose_codebooks(std::span<const SelectorInput> matrices,
                                           const SelectorRule& rule);

/// Spearman's rank correlation of two lists of one length, equal values sharing their mean rank; 0
/// if either list has no two different values.
double rank_correlation(std::span<const double> a, std::span<const double> b);

}  // namespace rwkv::press
