// See unicode.h. Normalisation follows section 3.11 of the Unicode standard and its section 3.12
// for Hangul syllables.
#include "formats/tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <vector>

#include "formats/base/utf8.h"

namespace rwkv {

namespace {

struct ClassRange {
  uint32_t first;
  uint32_t last;
  uint8_t value;
};

struct Decomposition {
  uint32_t composed;
  uint32_t first;
  uint32_t second;  ///< 0 if there is none
};

#include "formats/tokenizer/unicode_tables.inc"

template <size_t N>
uint8_t value_in(const ClassRange (&ranges)[N], uint32_t code_point) {
  const ClassRange* const after =
      std::upper_bound(std::begin(ranges), std::end(ranges), code_point,
                       [](uint32_t value, const ClassRange& range) { return value < range.first; });
  if (after == std::begin(ranges) || code_point > after[-1].last) {
    return 0;
  }
  return after[-1].value;
}

constexpr std::array<CharClass, 128> kAsciiClasses = [] {
  std::array<CharClass, 128> classes{};
  for (size_t c = 0; c < classes.size(); ++c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      classes[c] = CharClass::Letter;
    } else if (c >= '0' && c <= '9') {
      classes[c] = CharClass::Number;
    } else if (c == ' ' || (c >= 9 && c <= 13)) {
      classes[c] = CharClass::Space;
    }
  }
  return classes;
}();

// Hangul: 19 leading consonants, 21 vowels, 28 trailing consonants (the first: none).
constexpr uint32_t kSyllables = 0xac00;
constexpr uint32_t kLeading = 0x1100;
constexpr uint32_t kVowels = 0x1161;
constexpr uint32_t kTrailing = 0x11a7;
constexpr uint32_t kNVowels = 21;
constexpr uint32_t kNTrailing = 28;
constexpr uint32_t kNSyllables = 19 * kNVowels * kNTrailing;

struct Mark {
  uint32_t code_point;
  uint8_t combining_class;
};

void append_decomposed(uint32_t code_point, std::vector<Mark>& out) {
  if (code_point - kSyllables < kNSyllables) {
    const uint32_t index = code_point - kSyllables;
    out.push_back({kLeading + index / (kNVowels * kNTrailing), 0});
    out.push_back({kVowels + index / kNTrailing % kNVowels, 0});
    if (index % kNTrailing != 0) {
      out.push_back({kTrailing + index % kNTrailing, 0});
    }
    return;
  }
  // Only the first part of a decomposition decomposes further; the second parts wait here. The
  // longest chain in Unicode has three of them.
  std::array<uint32_t, 8> waiting;
  size_t n_waiting = 0;
  while (n_waiting < waiting.size()) {
    const Decomposition* const row = std::lower_bound(
        std::begin(kDecompositions), std::end(kDecompositions), code_point,
        [](const Decomposition& entry, uint32_t value) { return entry.composed < value; });
    if (row == std::end(kDecompositions) || row->composed != code_point) {
      break;
    }
    code_point = row->first;
    if (row->second != 0) {
      waiting[n_waiting++] = row->second;
    }
  }
  out.push_back({code_point, value_in(kCombiningRanges, code_point)});
  while (n_waiting > 0) {
    const uint32_t second = waiting[--n_waiting];
    out.push_back({second, value_in(kCombiningRanges, second)});
  }
}

void order_marks(std::vector<Mark>& marks) {
  const auto is_starter = [](const Mark& mark) { return mark.combining_class == 0; };
  auto begin = marks.begin();
  while (begin != marks.end()) {
    begin = std::find_if_not(begin, marks.end(), is_starter);
    const auto end = std::find_if(begin, marks.end(), is_starter);
    std::stable_sort(begin, end, [](const Mark& a, const Mark& b) {
      return a.combining_class < b.combining_class;
    });
    begin = end;
  }
}

/// The code point that `first` and `second` compose to, or 0.
uint32_t composed(uint32_t first, uint32_t second) {
  if (first - kLeading < 19 && second - kVowels < kNVowels) {
    return kSyllables + ((first - kLeading) * kNVowels + (second - kVowels)) * kNTrailing;
  }
  if (first - kSyllables < kNSyllables && (first - kSyllables) % kNTrailing == 0 &&
      second - kTrailing - 1 < kNTrailing - 1) {
    return first + (second - kTrailing);
  }
  const std::pair<uint32_t, uint32_t> wanted(first, second);
  const uint16_t* const found =
      std::lower_bound(std::begin(kCompositions), std::end(kCompositions), wanted,
                       [](uint16_t index, const std::pair<uint32_t, uint32_t>& value) {
                         const Decomposition& row = kDecompositions[index];
                         return std::pair(row.first, row.second) < value;
                       });
  if (found == std::end(kCompositions)) {
    return 0;
  }
  const Decomposition& row = kDecompositions[*found];
  return row.first == first && row.second == second ? row.composed : 0;
}

void compose(std::vector<Mark>& marks) {
  size_t n_out = 0;
  size_t starter = marks.size();  // index of the last starter; marks.size(): none yet
  for (const Mark mark : std::vector<Mark>(marks)) {
    if (starter != marks.size()) {
      // A mark is blocked from its starter by anything between them that is a starter or has the
      // same or a higher combining class.
      const bool adjacent = n_out == starter + 1;
      const bool blocked = !adjacent && marks[n_out - 1].combining_class >= mark.combining_class;
      const uint32_t whole = blocked ? 0 : composed(marks[starter].code_point, mark.code_point);
      if (whole != 0) {
        marks[starter].code_point = whole;
        continue;
      }
    }
    if (mark.combining_class == 0) {
      starter = n_out;
    }
    marks[n_out++] = mark;
  }
  marks.resize(n_out);
}

void append_nfc(std::string_view text, std::string& out, std::vector<Mark>& marks) {
  marks.clear();
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    if (point.length == 0) {
      break;  // the caller has checked the text; ends the loop if it did not
    }
    append_decomposed(point.value, marks);
    text.remove_prefix(point.length);
  }
  order_marks(marks);
  compose(marks);
  for (const Mark& mark : marks) {
    append_utf8(out, mark.code_point);
  }
}

}  // namespace

CharClass char_class(uint32_t code_point) {
  if (code_point < kAsciiClasses.size()) {
    return kAsciiClasses[code_point];
  }
  return static_cast<CharClass>(value_in(kClassRanges, code_point));
}

bool may_change_in_nfc(std::string_view text) {
  // 0xcc is the first byte of U+0300, below which everything is in form C.
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) >= 0xcc; });
}

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<Mark> marks;
  // Line by line, so that memory for one line is enough: nothing composes with or across a newline.
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline == text.npos ? newline : newline + 1);
    if (may_change_in_nfc(line)) {
      append_nfc(line, out, marks);
    } else {
      out += line;
    }
    text.remove_prefix(line.size());
  }
  return out;
}

}  // namespace rwkv
