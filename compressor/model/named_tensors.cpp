#include "compressor/model/named_tensors.h"

#include <algorithm>

#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {

std::optional<size_t> find_tensor(const TensorSource& source, std::string_view name) {
  const std::vector<TensorInfo>& tensors = source.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const TensorInfo& tensor) { return tensor.name == name; });
  if (found == tensors.end()) {
    return std::nullopt;
  }
  return static_cast<size_t>(found - tensors.begin());
}

Result<at::Tensor> load_named(const TensorSource& source, std::string_view name) {
  const std::optional<size_t> index = find_tensor(source, name);
  if (!index) {
    return bad_input("{}: tensor '{}' is missing", source.path(), name);
  }
  return load_f32(source, *index);
}

Result<at::Tensor> NamedTensors::get(const std::string& name, bool is_flat) const {
  RWKV_ASSIGN(at::Tensor values, load_named(source_, name));
  if (is_flat) {
    values = values.flatten();
  }
  values = values.to(device_);
  if (adopt_ != nullptr && *adopt_) {
    (*adopt_)(name, values);
  }
  return values;
}

Result<at::Tensor> NamedTensors::vector(const std::string& name) const {
  return get(name, /*is_flat=*/true);
}

Result<at::Tensor> NamedTensors::matrix(const std::string& name) const {
  return get(name, /*is_flat=*/false);
}

std::string BlockTensors::full_name(std::string_view name) const {
  return fmt::format("blocks.{}.{}", index_, name);
}

Result<at::Tensor> BlockTensors::vector(std::string_view name) const {
  return tensors_.vector(full_name(name));
}

Result<at::Tensor> BlockTensors::matrix(std::string_view name) const {
  return tensors_.matrix(full_name(name));
}

Status BlockTensors::vectors(const std::string& prefix, std::initializer_list<Slot> slots) const {
  for (const Slot& slot : slots) {
    RWKV_ASSIGN(*slot.to, vector(prefix + slot.name));
  }
  return {};
}

Status BlockTensors::matrices(const std::string& prefix, std::initializer_list<Slot> slots) const {
  for (const Slot& slot : slots) {
    RWKV_ASSIGN(*slot.to, matrix(prefix + slot.name));
  }
  return {};
}

Result<Linear> BlockTensors::linear(const std::string& stem) const {
  Linear linear;
  // Without either form the message names the dense one, as identify() does.
  if (contains(stem + ".weight") || !contains(stem + "1.weight")) {
    RWKV_ASSIGN(linear.dense, matrix(stem + ".weight"));
    return linear;
  }
  RWKV_ASSIGN(linear.factor_a, matrix(stem + "1.weight"));
  RWKV_ASSIGN(linear.factor_b, matrix(stem + "2.weight"));
  if (contains(stem + "_diag")) {
    // The enhanced form always has a diagonal; a pair without one is linear in any model.
    linear.squares = config_.low_rank == LowRankForm::ReluSquared;
    RWKV_ASSIGN(linear.diagonal, vector(stem + "_diag"));
  }
  return linear;
}

}  // namespace rwkv::press
