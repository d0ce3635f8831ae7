// The steps that cut a text into pieces before BPE, as tokenizer.json files list them: splits at
// patterns, then bytes in GPT-2's spelling, split as GPT-2 does or not.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer/split_pattern.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv {

/// "isolated", "removed", ... as metadata has it.
const char* split_behavior_name(SplitBehavior behavior);
/// The inverse; BadInput for any other name.
Result<SplitBehavior> split_behavior_from_name(std::string_view name);

/// A rule that is ready to use.
class CompiledSplit {
 public:
  /// BadInput names what of the pattern is not supported.
  static Result<CompiledSplit> compile(const SplitRule& rule);

  /// Calls `visit` with the pieces of `text`, which is not empty, in order; they are not empty.
  Status split(std::string_view text, const std::function<Status(std::string_view)>& visit) const;

  size_t memory_bytes() const { return pattern_.memory_bytes(); }

 private:
  SplitPattern pattern_;
  SplitBehavior behavior_ = SplitBehavior::Isolated;
  bool is_inverted_ = false;
};

}  // namespace rwkv
