#include "formats/tokenizer/pre_split.h"

#include <algorithm>
#include <array>
#include <utility>

namespace rwkv {
namespace {

struct BehaviorRow {
  SplitBehavior behavior;
  const char* name;
};
constexpr std::array kBehaviors = {
    BehaviorRow{SplitBehavior::Isolated, "isolated"},
    BehaviorRow{SplitBehavior::Removed, "removed"},
    BehaviorRow{SplitBehavior::Contiguous, "contiguous"},
    BehaviorRow{SplitBehavior::MergedWithPrevious, "merged_with_previous"},
    BehaviorRow{SplitBehavior::MergedWithNext, "merged_with_next"},
};

// A part of the text, from the start of the text on.
struct Part {
  size_t begin;
  size_t end;
  bool is_match;
};

// Every match joins the part before it, unless that is a match itself.
std::vector<Part> merged_with_previous(const std::vector<Part>& parts) {
  std::vector<Part> result;
  bool after_match = false;
  for (const Part& part : parts) {
    if (part.is_match && !after_match && !result.empty()) {
      result.back().end = part.end;
    } else {
      result.push_back(part);
    }
    after_match = part.is_match;
  }
  return result;
}

// The same from the end of the text.
std::vector<Part> merged_with_next(std::vector<Part> parts) {
  std::vector<Part> result;
  bool before_match = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->is_match && !before_match && !result.empty()) {
      result.back().begin = part->begin;
    } else {
      result.push_back(*part);
    }
    before_match = part->is_match;
  }
  std::reverse(result.begin(), result.end());
  return result;
}

std::vector<Part> contiguous(const std::vector<Part>& parts) {
  std::vector<Part> result;
  for (const Part& part : parts) {
    if (!result.empty() && result.back().is_match == part.is_match) {
      result.back().end = part.end;
    } else {
      result.push_back(part);
    }
  }
  return result;
}

}  // namespace

const char* split_behavior_name(SplitBehavior behavior) {
  return kBehaviors[static_cast<size_t>(behavior)].name;
}

Result<SplitBehavior> split_behavior_from_name(std::string_view name) {
  for (const BehaviorRow& row : kBehaviors) {
    if (row.name == name) {
      return row.behavior;
    }
  }
  return bad_input(
      "behaviour of a split: expected isolated, removed, contiguous, "
      "merged_with_previous or merged_with_next, found \"{}\"",
      name.substr(0, 64));
}

Result<CompiledSplit> CompiledSplit::compile(const SplitRule& rule) {
  CompiledSplit result;
  if (rule.pattern.empty()) {
    return bad_input("split: expected a pattern, found an empty one");
  }
  if (rule.is_regex) {
    RWKV_ASSIGN(result.pattern_, SplitPattern::compile(rule.pattern));
  } else {
    result.pattern_ = SplitPattern::literal(rule.pattern);
  }
  result.behavior_ = rule.behavior;
  result.is_inverted_ = rule.is_inverted;
  return result;
}

Status CompiledSplit::split(std::string_view text,
                            const std::function<Status(std::string_view)>& visit) const {
  std::vector<Part> parts;
  size_t steps = SplitPattern::most_steps(text.size());
  for (size_t at = 0; at < text.size();) {
    RWKV_ASSIGN(const SplitPattern::Match match, pattern_.find(text, at, steps));
    if (match.begin > at) {
      parts.push_back({at, match.begin, is_inverted_});
    }
    if (match.length > 0) {
      parts.push_back({match.begin, match.begin + match.length, !is_inverted_});
    }
    at = match.begin + match.length;
  }
  switch (behavior_) {
    case SplitBehavior::Isolated:
      break;
    case SplitBehavior::Removed:
      parts.erase(std::remove_if(parts.begin(), parts.end(),
                                 [](const Part& part) { return part.is_match; }),
                  parts.end());
      break;
    case SplitBehavior::Contiguous:
      parts = contiguous(parts);
      break;
    case SplitBehavior::MergedWithPrevious:
      parts = merged_with_previous(parts);
      break;
    case SplitBehavior::MergedWithNext:
      parts = merged_with_next(std::move(parts));
      break;
  }
  for (const Part& part : parts) {
    RWKV_TRY(visit(text.substr(part.begin, part.end - part.begin)));
  }
  return {};
}

}  // namespace rwkv
