// Ends a text at the first of several stop strings while the text arrives in pieces.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::edge {

/// Usage if one of `stops` is empty: it would end every text immediately.
Status check_stop_strings(std::span<const std::string> stops);

/// Lets text through up to the stop string that is complete first; if several are complete at the
/// same byte, up to the longest. Neither the stop string nor the text after it comes out. Text that
/// may still become a stop string is held back, so the result does not depend on how the text was
/// cut into pieces. Compares bytes. Allocates only for a push that is longer than a few hundred
/// bytes and than any before it.
class StopStrings {
 public:
  /// `stops` must pass check_stop_strings(); empty strings never match.
  explicit StopStrings(std::vector<std::string> stops);

  /// The text that may be shown now; nothing after a stop. Valid until the next call.
  std::string_view push(std::string_view text);

  /// At the end of the text: the text that was held back, if there was no stop.
  std::string_view flush();

  bool stopped() const { return stopped_; }

  /// Ready for another text.
  void reset();

 private:
  /// One stop string, and how much of its beginning the text now ends with (Knuth, Morris, Pratt).
  struct Pattern {
    std::string text;
    std::vector<size_t>
        shorter;  ///< [n]: the next shorter beginning that the first n bytes end with
    size_t n_matched = 0;

    void take(char byte);
  };

  std::vector<Pattern> patterns_;
  std::string buffer_;  ///< text shown by the last call, followed by text held back
  size_t n_shown_ = 0;  ///< bytes of the former
  bool stopped_ = false;
};

}  // namespace rwkv::edge
