// The regular expressions by which tokenizer.json files split text before BPE: a small matcher for
// the part of the syntax that they use. What it does not know is refused by name.
//
//   alternatives a|b, groups (?:...) (...) and (?i:...), look-ahead (?=...) (?!...)
//   characters, \r \n \t, escaped punctuation, \s \S \d \D, \p{L} \p{N} \P{L} \P{N}, sets [...]
//   [^...] ? * + {n} {n,} {n,m}, greedy, on single characters and sets; ? on groups too
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

class SplitPattern {
 public:
  /// A place in the text; length 0 with `begin` at its end: there is none.
  struct Match {
    size_t begin = 0;
    size_t length = 0;
  };

  /// BadInput names what is not understood, and where in the pattern.
  static Result<SplitPattern> compile(std::string_view pattern);
  /// A pattern that matches exactly `text`, which is not empty.
  static SplitPattern literal(std::string text);

  /// The first match in `text`, which is valid UTF-8, at or after `from`. Of alternatives the first
  /// that matches counts, as in Perl. Empty matches are passed over. Each character that is tried
  /// takes one of `steps`; BadInput if none is left.
  Result<Match> find(std::string_view text, size_t from, size_t& steps) const;
  /// Far more steps than the patterns in use take for all matches in a text of `n_bytes` together.
  static size_t most_steps(size_t n_bytes);

  size_t memory_bytes() const;

 private:
  // A set of code points: ranges and classes, one of which must hold.
  struct Set {
    struct Range {
      uint32_t first;
      uint32_t last;
    };
    std::vector<Range> ranges;
    uint32_t classes = 0;      ///< bits of CharClass
    uint32_t not_classes = 0;  ///< classes that the code point is not in
    bool is_negated = false;
    bool contains(uint32_t code_point) const;
  };
  struct Node;
  using Sequence = std::vector<Node>;
  struct Node {
    enum class Kind : uint8_t { Set, Group, Ahead, NotAhead };
    Kind kind = Kind::Set;
    SplitPattern::Set set = {};
    std::vector<Sequence> alternatives = {};
    size_t min = 1;
    size_t max = 1;
  };
  class Parser;
  class Matcher;

  std::vector<Sequence> alternatives_;
  std::string literal_;  ///< not empty: the whole pattern
};

}  // namespace rwkv
