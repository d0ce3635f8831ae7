// Ends a text at the first of several stop strings, while the text still arrives in pieces.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::edge {

/// Usage if one of `stops` is empty: it would end every text at once.
Status check_stop_strings(std::span<const std::string> stops);

/// Lets text through up to the stop string that is complete first; of several that are complete
/// at the same byte, the longest. Neither the stop string nor what follows comes out. Text that
/// may still become a stop string is held back, so the result does not depend on how the text was
/// cut. Compares bytes. Allocates only for a push longer than a few hundred bytes and than any
/// before it.
class StopStrings {
 public:
  /// `stops` must pass check_stop_strings(); empty strings never match.
  explicit StopStrings(std::vector<std::string> stops);

  /// What may be shown now. The view holds until the next call. Nothing after a stop.
  std::string_view push(std::string_view text);

  /// At the end of the text: what was held back, if there was no stop.
  std::string_view flush();

  bool stopped() const { return stopped_; }

  /// Ready for another text.
  void reset();

 private:
  /// One stop string and how much of it the text so far ends with (Knuth, Morris, Pratt).
  struct Pattern {
    std::string text;
    std::vector<size_t>
        shorter;  ///< [n]: the next shorter beginning that the first n bytes end with
    size_t n_matched = 0;

    void take(char byte);
  };

  std::vector<Pattern> patterns_;
  std::string buffer_;  ///< text shown by the last call, then text held back
  size_t n_shown_ = 0;  ///< bytes of the first kind
  bool stopped_ = false;
};

}  // namespace rwkv::edge
