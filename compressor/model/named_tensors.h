// Tensors of a source by their BlinkDL names, as LibTorch tensors in f32.
#pragma once

#include <ATen/ATen.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "compressor/model/linear.h"
#include "formats/arch/model_config.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Where `name` is in source.tensors().
std::optional<size_t> find_tensor(const TensorSource& source, std::string_view name);

/// The tensor named `name` in its own shape as f32; BadInput if it is missing.
Result<at::Tensor> load_named(const TensorSource& source, std::string_view name);

/// The tensors of one block. Keeps references to source and config. Shapes are not checked here:
/// the config is from identify(), which has checked them.
class BlockTensors {
 public:
  /// A tensor of the block and the member that it goes to.
  struct Slot {
    at::Tensor* to;
    const char* name;  ///< after the prefix: "time_mix_k"
  };

  BlockTensors(const TensorSource& source, const ModelConfig& config, int64_t index);

  const TensorSource& source() const { return source_; }
  const ModelConfig& config() const { return config_; }
  bool is_first() const { return index_ == 0; }
  /// "att.key.weight" to "blocks.3.att.key.weight".
  std::string full_name(std::string_view name) const;
  bool contains(std::string_view name) const;

  /// Flat: vectors come as [n], [1, 1, n] or [heads, size].
  Result<at::Tensor> vector(std::string_view name) const;
  /// In its own shape.
  Result<at::Tensor> matrix(std::string_view name) const;
  /// Each slot from `prefix` + its name.
  Status vectors(const std::string& prefix, std::initializer_list<Slot> slots) const;
  Status matrices(const std::string& prefix, std::initializer_list<Slot> slots) const;
  /// `stem`.weight, or the pair `stem`1.weight and `stem`2.weight with `stem`_diag where there is
  /// one; with a diagonal, what lies between the factors is the config's low_rank.
  Result<Linear> linear(const std::string& stem) const;

 private:
  const TensorSource& source_;
  const ModelConfig& config_;
  int64_t index_;
};

}  // namespace rwkv::press
