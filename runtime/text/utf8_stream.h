// Turns the bytes of tokens into text that can be shown. A token may end in the middle of a
// character, so incomplete characters wait here. Only whole UTF-8 characters come out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace rwkv::edge {

/// The result does not depend on how the bytes were cut into pushes. Bytes that cannot become a
/// character are replaced by U+FFFD: one for each maximal beginning of a character that was cut
/// short and one for each other byte (Unicode 15, section 3.9, as in browsers). Allocates only for
/// a push that is longer than a few hundred bytes and than any before it.
class Utf8Stream {
 public:
  Utf8Stream();

  /// The characters that `bytes` completes. Valid until the next call.
  std::string_view push(std::string_view bytes);

  /// At the end of the text: U+FFFD if a character was cut short, else nothing. Afterwards the
  /// stream may be used for another text.
  std::string_view flush();

 private:
  void take(uint8_t byte);

  std::string out_;
  char partial_[4] = {};  ///< the beginning of a character
  size_t n_partial_ = 0;  ///< bytes in partial_
  size_t n_missing_ = 0;  ///< bytes that complete it
  uint8_t next_min_ = 0;  ///< range of the byte that may come next
  uint8_t next_max_ = 0;
};

}  // namespace rwkv::edge
