// The work behind identify(): looks tensors up by name, binds size symbols to numbers, and checks
// every shape against its row of a version's table.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/arch/identify.h"

namespace rwkv {

/// Tensors by name. Keeps a reference to the list.
class TensorIndex {
 public:
  explicit TensorIndex(std::span<const TensorInfo> tensors) : tensors_(tensors) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      by_name_.emplace(tensors[i].name, i);
    }
  }
  const TensorInfo* find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
  }
  size_t index_of(const TensorInfo* tensor) const {
    return static_cast<size_t>(tensor - tensors_.data());
  }
  const TensorInfo& at(size_t i) const { return tensors_[i]; }
  size_t size() const { return tensors_.size(); }

 private:
  std::span<const TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_;
};

class Binder {
 public:
  Binder(const TensorIndex& index, Version version, uint64_t n_layer, ShapesAre shapes);

  /// Binds the symbols that one tensor alone cannot show: vocabulary, heads, head size.
  Status derive_sizes();
  /// Binds the tensor of `spec` in `block` (-1: of the model), or of `alternative` if it is there
  /// instead, or the factor pair that stands in for a projection.
  Status bind(const TensorSpec& spec, const TensorSpec* alternative, int64_t block);
  void bind_ignored(size_t source, int64_t block);
  bool is_bound(size_t source) const { return bound_[source]; }
  /// What stages add comes in sets: BadInput if a part of one is missing.
  Status check_sets() const;
  /// The result; the binder is empty afterwards.
  Identified take();

 private:
  Status bind_dense(const TensorSpec& spec, const TensorInfo& tensor, int64_t block);
  Status bind_pair(const TensorSpec& spec, const TensorInfo& factor_a, int64_t block);
  Status bind_diagonal(const TensorSpec& spec, std::string_view stem, int64_t block);
  Status derive_heads();
  void add(const TensorInfo& tensor, Role role, Part part, Layout layout, int64_t block,
           std::vector<uint64_t> shape);
  Status check_shape(const TensorSpec& spec, const TensorInfo& tensor,
                     std::vector<uint64_t>& canonical);
  Result<uint64_t> expected(Dim dim, uint64_t found);
  uint64_t& size_of(Dim dim);

  const TensorIndex& index_;
  ShapesAre shapes_;
  Identified result_;
  std::vector<bool> bound_;
  bool has_diagonal_ = false;
  bool has_pair_ = false;
  uint64_t unused_ = 0;
};

}  // namespace rwkv
