#include "formats/tokenizer/tokenizer_json_splits.h"

#include "formats/tokenizer/escape.h"
#include "formats/tokenizer/pre_split.h"

namespace rwkv {

namespace {

// As tokenizer.json spells them.
struct BehaviorRow {
  const char* name;
  SplitBehavior behavior;
};
constexpr BehaviorRow kBehaviors[] = {
    {"Isolated", SplitBehavior::Isolated},
    {"Removed", SplitBehavior::Removed},
    {"Contiguous", SplitBehavior::Contiguous},
    {"MergedWithPrevious", SplitBehavior::MergedWithPrevious},
    {"MergedWithNext", SplitBehavior::MergedWithNext},
};

Result<SplitRule> read_split(const Json& step) {
  SplitRule rule;
  const Json& pattern = member(step, "pattern");
  const std::string_view regex = text_of(member(pattern, "Regex"));
  rule.is_regex = !regex.empty();
  rule.pattern = rule.is_regex ? regex : text_of(member(pattern, "String"));
  if (rule.pattern.empty()) {
    return bad_input("pre_tokenizer Split: expected a pattern that is a Regex or a String");
  }
  const std::string_view behavior = text_of(member(step, "behavior"));
  bool is_known = false;
  for (const BehaviorRow& row : kBehaviors) {
    if (behavior == row.name) {
      rule.behavior = row.behavior;
      is_known = true;
    }
  }
  if (!is_known) {
    return bad_input("pre_tokenizer Split: behavior \"{}\" is not supported",
                     escape_token(behavior.substr(0, 64)));
  }
  rule.is_inverted = !is_off(member(step, "invert"));
  const auto compiled = CompiledSplit::compile(rule);
  RWKV_TRY(compiled.status().in("pre_tokenizer Split"));
  return rule;
}

Status read_byte_level(const Json& step, Vocabulary& out) {
  const Json& use_regex = member(step, "use_regex");
  out.splits_as_gpt2 = use_regex.is_null() || !is_off(use_regex);
  out.add_prefix_space = !is_off(member(step, "add_prefix_space"));
  return {};
}

Status read_step(const Json& step, bool is_last, Vocabulary& out) {
  const std::string type = type_of(step);
  if (is_last) {
    return type == "ByteLevel"
               ? read_byte_level(step, out)
               : bad_input("pre_tokenizer: expected ByteLevel at its end, found {}", type);
  }
  if (type == "Split") {
    RWKV_ASSIGN(SplitRule rule, read_split(step));
    out.splits.push_back(std::move(rule));
    return {};
  }
  if (type == "Digits") {
    const bool alone = !is_off(member(step, "individual_digits"));
    out.splits.push_back(
        {"\\p{N}", true, alone ? SplitBehavior::Isolated : SplitBehavior::Contiguous});
    return {};
  }
  if (type == "WhitespaceSplit") {
    out.splits.push_back({"\\s", true, SplitBehavior::Removed});
    return {};
  }
  return bad_input("pre_tokenizer: expected Split, Digits, WhitespaceSplit or ByteLevel, found {}",
                   type);
}

}  // namespace

Status read_pre_tokenizer(const Json& pre_tokenizer, Vocabulary& out) {
  if (type_of(pre_tokenizer) != "Sequence") {
    return read_step(pre_tokenizer, true, out);
  }
  const Json& steps = member(pre_tokenizer, "pretokenizers");
  if (!steps.is_array() || steps.empty()) {
    return bad_input("pre_tokenizer Sequence: expected an array \"pretokenizers\" with steps");
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    RWKV_TRY(read_step(steps[i], i + 1 == steps.size(), out));
  }
  return {};
}

}  // namespace rwkv
