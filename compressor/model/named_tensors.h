// Tensors of a source by their BlinkDL names, as LibTorch tensors in f32.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
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

/// Sees every tensor of a model as it is loaded, in the form in which the model keeps it (vectors
/// flat), under its BlinkDL name. Training makes leaves of them here.
using Adopt = std::function<void(const std::string& name, at::Tensor& values)>;

/// A source's tensors for modules, on a device. Keeps references to the source and, unless null, to
/// `adopt`, which sees them there. Shapes are not checked here: identify() has checked them.
class NamedTensors {
 public:
  explicit NamedTensors(const TensorSource& source, const Adopt* adopt = nullptr,
                        const at::Device& device = at::kCPU)
      : source_(source), adopt_(adopt), device_(device) {}

  const TensorSource& source() const { return source_; }
  bool contains(std::string_view name) const { return find_tensor(source_, name).has_value(); }
  /// Flat: vectors come as [n], [1, 1, n] or [heads, size].
  Result<at::Tensor> vector(const std::string& name) const;
  /// In its own shape.
  Result<at::Tensor> matrix(const std::string& name) const;

 private:
  Result<at::Tensor> get(const std::string& name, bool is_flat) const;
  const TensorSource& source_;
  const Adopt* adopt_;
  at::Device device_;
};

/// The tensors of one block. Keeps references to tensors and config.
class BlockTensors {
 public:
  /// A tensor of the block and the member that it goes to.
  struct Slot {
    at::Tensor* to;
    const char* name;  ///< after the prefix: "time_mix_k"
  };

  BlockTensors(const NamedTensors& tensors, const ModelConfig& config, int64_t index)
      : tensors_(tensors), config_(config), index_(index) {}

  const NamedTensors& all() const { return tensors_; }
  const ModelConfig& config() const { return config_; }
  bool is_first() const { return index_ == 0; }
  /// "att.key.weight" to "blocks.3.att.key.weight".
  std::string full_name(std::string_view name) const;
  bool contains(std::string_view name) const { return tensors_.contains(full_name(name)); }

  Result<at::Tensor> vector(std::string_view name) const;
  Result<at::Tensor> matrix(std::string_view name) const;
  /// Each slot from `prefix` + its name.
  Status vectors(const std::string& prefix, std::initializer_list<Slot> slots) const;
  Status matrices(const std::string& prefix, std::initializer_list<Slot> slots) const;
  /// `stem`.weight, or the pair `stem`1.weight and `stem`2.weight with `stem`_diag where there is
  /// one; with a diagonal, what lies between the factors is the config's low_rank.
  Result<Linear> linear(const std::string& stem) const;

 private:
  const NamedTensors& tensors_;
  const ModelConfig& config_;
  int64_t index_;
};

}  // namespace rwkv::press
