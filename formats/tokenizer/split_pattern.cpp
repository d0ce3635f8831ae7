#include "formats/tokenizer/split_pattern.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "formats/base/utf8.h"
#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/unicode.h"

namespace rwkv {
namespace {

constexpr size_t kMany = std::numeric_limits<size_t>::max();
constexpr size_t kMaxPattern = 4096;  // the longest in use have 300 bytes
constexpr size_t kMaxNesting = 16;
constexpr size_t kMaxRepeats = 1000;
constexpr size_t kNone = std::numeric_limits<size_t>::max();
// Steps allowed for a match: patterns in use need a few per byte.
constexpr size_t kStepsPerByte = 256;
constexpr size_t kLeastSteps = 4096;

constexpr uint32_t bit_of(CharClass kind) {
  return 1u << static_cast<unsigned>(kind);
}

// What else matches an ASCII letter if case does not count: the two letters beyond ASCII that fold
// to one.
constexpr uint32_t kLongS = 0x17f;
constexpr uint32_t kKelvin = 0x212a;

}  // namespace

bool SplitPattern::Set::contains(uint32_t code_point) const {
  const uint32_t kind = classes | not_classes ? bit_of(char_class(code_point)) : 0;
  const bool is_in = (classes & kind) != 0 || (not_classes & ~kind) != 0 ||
                     std::any_of(ranges.begin(), ranges.end(), [&](const Range& range) {
                       return range.first <= code_point && code_point <= range.last;
                     });
  return is_in != is_negated;
}

class SplitPattern::Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  Result<std::vector<Sequence>> parse() {
    if (pattern_.size() > kMaxPattern || !is_valid_utf8(pattern_)) {
      return bad_input("pattern: expected UTF-8 of at most {} bytes", kMaxPattern);
    }
    RWKV_ASSIGN(std::vector<Sequence> result, alternatives(0));
    if (at_ != pattern_.size()) {
      return unknown("an unmatched )");
    }
    return result;
  }

 private:
  Status unknown(std::string_view what) const {
    return bad_input("pattern \"{}\": {} at byte {} is not supported",
                     escape_token(pattern_.substr(0, 200)), what, at_);
  }
  bool at_end() const { return at_ == pattern_.size(); }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) {
      return false;
    }
    at_ += text.size();
    return true;
  }

  Result<std::vector<Sequence>> alternatives(size_t depth) {
    if (depth > kMaxNesting) {
      return unknown("a group within so many others");
    }
    std::vector<Sequence> result(1);
    while (!at_end() && pattern_[at_] != ')') {
      if (take("|")) {
        result.emplace_back();
        continue;
      }
      RWKV_ASSIGN(Node node, item(depth));
      RWKV_TRY(repeats(node));
      result.back().push_back(std::move(node));
    }
    return result;
  }

  Result<Node> item(size_t depth) {
    if (take("(")) {
      return group(depth);
    }
    Node node;
    if (take("[")) {
      RWKV_TRY(bracketed(node.set));
      return node;
    }
    if (take(".")) {
      node.set.ranges = {{'\n', '\n'}};
      node.set.is_negated = true;
      return node;
    }
    for (const char c : {'^', '$', '*', '+', '?', '{'}) {
      if (pattern_[at_] == c) {
        return unknown(fmt::format("'{}'", c));
      }
    }
    RWKV_TRY(one(node.set));
    return node;
  }

  Result<Node> group(size_t depth) {
    Node node;
    node.kind = Node::Kind::Group;
    const bool outer = ignores_case_;
    if (take("?=")) {
      node.kind = Node::Kind::Ahead;
    } else if (take("?!")) {
      node.kind = Node::Kind::NotAhead;
    } else if (take("?i:")) {
      ignores_case_ = true;
    } else if (!take("?:") && !at_end() && pattern_[at_] == '?') {
      return unknown("this kind of group");
    }
    RWKV_ASSIGN(node.alternatives, alternatives(depth + 1));
    ignores_case_ = outer;
    if (!take(")")) {
      return unknown("a missing )");
    }
    return node;
  }

  // After "[".
  Status bracketed(Set& set) {
    set.is_negated = take("^");
    while (!take("]")) {
      if (at_end() || pattern_[at_] == '[') {
        return unknown("a set that does not end, or a set in a set,");
      }
      const size_t n_ranges = set.ranges.size();
      RWKV_TRY(one(set));
      const bool is_range = pattern_.substr(at_).starts_with("-") &&
                            !pattern_.substr(at_).starts_with("-]") &&
                            set.ranges.size() == n_ranges + 1;
      if (!is_range) {
        continue;
      }
      ++at_;
      Set last;
      RWKV_TRY(one(last));
      if (last.ranges.size() != 1 || last.ranges[0].first < set.ranges.back().first) {
        return unknown("this range");
      }
      set.ranges.back().last = last.ranges[0].first;
    }
    return {};
  }

  // One character or class, added to the set.
  Status one(Set& set) {
    if (at_end()) {
      return unknown("the end");
    }
    if (pattern_[at_] == '\\') {
      return escaped(set);
    }
    const CodePoint point = decode_utf8(pattern_.substr(at_));
    at_ += point.length;
    add(set, point.value);
    return {};
  }

  Status escaped(Set& set) {
    const uint32_t number = bit_of(CharClass::Number);
    const uint32_t letter = bit_of(CharClass::Letter);
    const uint32_t space = bit_of(CharClass::Space);
    struct Known {
      std::string_view text;
      uint32_t in;
      uint32_t not_in;
    };
    for (const Known& known :
         {Known{"\\s", space, 0}, Known{"\\S", 0, space}, Known{"\\p{L}", letter, 0},
          Known{"\\p{N}", number, 0}, Known{"\\P{L}", 0, letter}, Known{"\\P{N}", 0, number}}) {
      if (take(known.text)) {
        set.classes |= known.in;
        set.not_classes |= known.not_in;
        return {};
      }
    }
    struct Letter {
      std::string_view text;
      uint32_t value;
    };
    for (const Letter& known : {Letter{"\\r", '\r'}, Letter{"\\n", '\n'}, Letter{"\\t", '\t'}}) {
      if (take(known.text)) {
        set.ranges.push_back({known.value, known.value});
        return {};
      }
    }
    const char next = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : 'a';
    const auto value = static_cast<unsigned char>(next);
    if (value >= 0x80 || char_class(value) != CharClass::Other) {
      return unknown(fmt::format("'{}'", escape_token(pattern_.substr(at_, 2))));
    }
    at_ += 2;
    add(set, value);
    return {};
  }

  void add(Set& set, uint32_t value) {
    set.ranges.push_back({value, value});
    const bool is_letter = value < 0x80 && char_class(value) == CharClass::Letter;
    if (!ignores_case_ || !is_letter) {
      return;
    }
    set.ranges.push_back({value ^ 0x20u, value ^ 0x20u});
    const uint32_t lower = value | 0x20u;
    if (lower == 's' || lower == 'k') {
      const uint32_t other = lower == 's' ? kLongS : kKelvin;
      set.ranges.push_back({other, other});
    }
  }

  Status repeats(Node& node) {
    if (take("?")) {
      node.min = 0;
    } else if (take("*")) {
      node.min = 0;
      node.max = kMany;
    } else if (take("+")) {
      node.max = kMany;
    } else if (take("{")) {
      RWKV_TRY(counted(node));
    } else {
      return {};
    }
    const bool is_optional = node.min == 0 && node.max == 1;
    if (node.kind != Node::Kind::Set && !(node.kind == Node::Kind::Group && is_optional)) {
      return unknown("a repeated group");
    }
    for (const char c : {'?', '+', '*', '{'}) {
      if (!at_end() && pattern_[at_] == c) {
        return unknown(fmt::format("'{}' after a repetition", c));
      }
    }
    return {};
  }

  // After "{".
  Status counted(Node& node) {
    if (!number(node.min)) {
      return unknown("this repetition");
    }
    node.max = node.min;
    if (take(",")) {
      node.max = kMany;
      if (!pattern_.substr(at_).starts_with("}") && !number(node.max)) {
        return unknown("this repetition");
      }
    }
    return take("}") && node.min <= node.max && node.max > 0 ? Status()
                                                             : unknown("this repetition");
  }

  bool number(size_t& value) {
    const char* const begin = pattern_.data() + at_;
    const auto [end, error] = std::from_chars(begin, pattern_.data() + pattern_.size(), value);
    at_ += static_cast<size_t>(end - begin);
    return error == std::errc() && value <= kMaxRepeats;
  }

  std::string_view pattern_;
  size_t at_ = 0;
  bool ignores_case_ = false;
};

// Backtracking. Only single characters repeat without limit, in a loop, so the recursion is no
// deeper than the pattern is long.
class SplitPattern::Matcher {
 public:
  Matcher(std::string_view text, size_t& steps) : text_(text), steps_left_(steps) {}

  /// The end of the match at `at`, or kNone.
  size_t match(const std::vector<Sequence>& alternatives, size_t at) {
    return any_of(alternatives, at, nullptr);
  }
  bool gave_up() const { return steps_left_ == 0; }

 private:
  bool take_step() {
    steps_left_ -= steps_left_ > 0 ? 1 : 0;
    return steps_left_ > 0;
  }

  // What must match after a group.
  struct Rest {
    const Sequence& sequence;
    size_t next;
    const Rest* after;
  };

  size_t any_of(const std::vector<Sequence>& alternatives, size_t at, const Rest* rest) {
    for (const Sequence& sequence : alternatives) {
      const size_t end = from(sequence, 0, at, rest);
      if (end != kNone) {
        return end;
      }
    }
    return kNone;
  }

  size_t from(const Sequence& sequence, size_t next, size_t at, const Rest* rest) {
    if (!take_step()) {
      return kNone;
    }
    if (next == sequence.size()) {
      return rest ? from(rest->sequence, rest->next, at, rest->after) : at;
    }
    const Node& node = sequence[next];
    switch (node.kind) {
      case Node::Kind::Set:
        return repeated(sequence, next, at, rest);
      case Node::Kind::Group: {
        const Rest here{sequence, next + 1, rest};
        const size_t end = any_of(node.alternatives, at, &here);
        return end == kNone && node.min == 0 ? from(sequence, next + 1, at, rest) : end;
      }
      case Node::Kind::Ahead:
      case Node::Kind::NotAhead: {
        const bool found = any_of(node.alternatives, at, nullptr) != kNone;
        return found == (node.kind == Node::Kind::Ahead) ? from(sequence, next + 1, at, rest)
                                                         : kNone;
      }
    }
    return kNone;
  }

  // As many as there are first, then fewer.
  size_t repeated(const Sequence& sequence, size_t next, size_t at, const Rest* rest) {
    const Node& node = sequence[next];
    size_t count = 0;
    while (count < node.max && at < text_.size() && take_step()) {
      const CodePoint point = decode_utf8(text_.substr(at));
      if (point.length == 0 || !node.set.contains(point.value)) {
        break;
      }
      at += point.length;
      ++count;
    }
    for (;; --count) {
      if (count < node.min) {
        return kNone;
      }
      const size_t end = from(sequence, next + 1, at, rest);
      if (end != kNone || count == 0 || gave_up()) {
        return end;
      }
      do {  // back over one character
        --at;
      } while ((static_cast<unsigned char>(text_[at]) & 0xc0u) == 0x80u);
    }
  }

  std::string_view text_;
  size_t& steps_left_;
};

Result<SplitPattern> SplitPattern::compile(std::string_view pattern) {
  SplitPattern result;
  RWKV_ASSIGN(result.alternatives_, Parser(pattern).parse());
  return result;
}

SplitPattern SplitPattern::literal(std::string text) {
  SplitPattern result;
  result.literal_ = std::move(text);
  return result;
}

size_t SplitPattern::most_steps(size_t n_bytes) {
  return kLeastSteps + kStepsPerByte * n_bytes;
}

Result<SplitPattern::Match> SplitPattern::find(std::string_view text, size_t from,
                                               size_t& steps) const {
  if (!literal_.empty()) {
    const size_t begin = text.find(literal_, from);
    return begin == text.npos ? Match{text.size(), 0} : Match{begin, literal_.size()};
  }
  Matcher matcher(text, steps);
  for (size_t at = from; at < text.size();) {
    const size_t end = matcher.match(alternatives_, at);
    if (matcher.gave_up()) {
      return bad_input(
          "text: the vocabulary's split pattern takes too long at offset {}; shorten the text "
          "there",
          at);
    }
    if (end != kNone && end > at) {
      return Match{at, end - at};
    }
    at += std::max<size_t>(1, decode_utf8(text.substr(at)).length);
  }
  return Match{text.size(), 0};
}

size_t SplitPattern::memory_bytes() const {
  const auto count = [](const auto& self, const std::vector<Sequence>& alternatives) -> size_t {
    size_t bytes = alternatives.capacity() * sizeof(Sequence);
    for (const Sequence& sequence : alternatives) {
      bytes += sequence.capacity() * sizeof(Node);
      for (const Node& node : sequence) {
        bytes += node.set.ranges.capacity() * sizeof(Set::Range) + self(self, node.alternatives);
      }
    }
    return bytes;
  };
  return literal_.capacity() + count(count, alternatives_);
}

}  // namespace rwkv
