#include <fnmatch.h>

#include <set>

#include "compressor/train/trainer.h"

namespace rwkv::press {
namespace {

bool matches(const std::string& pattern, const TensorBinding& tensor) {
  if (pattern == "all") {
    return true;
  }
  if (pattern == "factors") {
    return tensor.part != Part::Dense;
  }
  if (pattern == kStateParameters) {
    return tensor.role == Role::InitialState;
  }
  return ::fnmatch(pattern.c_str(), tensor.name.c_str(), 0) == 0;
}

}  // namespace

Result<Network::IsTrainable> trainable_in(const std::vector<std::string>& patterns,
                                          std::span<const TensorBinding> tensors) {
  std::set<std::string> names;
  for (const std::string& pattern : patterns) {
    bool is_used = false;
    for (const TensorBinding& tensor : tensors) {
      if (tensor.role != Role::Ignored && matches(pattern, tensor)) {
        names.insert(tensor.name);
        is_used = true;
      }
    }
    if (!is_used && pattern == "factors") {
      return usage_error(
          "train.parameters: this model has no factor pairs to move; put low_rank before it, or "
          "let 'all' move");
    }
    if (!is_used && pattern == kStateParameters) {
      return usage_error(
          "train.parameters: this model has no time_state; rwkv-press train adds one to v5.2, v6 "
          "and v7");
    }
    if (!is_used) {
      return usage_error("train.parameters: no tensor of this model matches '{}'", pattern);
    }
  }
  if (names.empty()) {
    return usage_error(
        "train.parameters is empty: factors, state, all, or globs over tensor names");
  }
  return Network::IsTrainable([names](const std::string& name) { return names.contains(name); });
}

}  // namespace rwkv::press
