// Results that are expensive to compute, kept in a folder as f32 tensors. A caller names them by
// what they were computed from, so that the same bits come with or without a store.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace rwkv::press {

class TensorStore {
 public:
  /// Keeps nothing.
  TensorStore() = default;
  /// `folder` exists, or is empty: nothing is kept.
  explicit TensorStore(std::string folder) : folder_(std::move(folder)) {}

  bool keeps() const { return !folder_.empty(); }
  /// What was kept under this name, of these shapes; nothing if there is none or it is damaged.
  std::optional<std::vector<at::Tensor>> find(
      const std::string& name, const std::vector<std::vector<int64_t>>& shapes) const;
  /// Keeps f32 tensors; a folder that cannot be written to keeps nothing.
  void keep(const std::string& name, const std::vector<at::Tensor>& tensors) const;

 private:
  std::string folder_;
};

/// XXH64 of the values of f32 tensors.
uint64_t hash_of(const std::vector<at::Tensor>& tensors);

}  // namespace rwkv::press
