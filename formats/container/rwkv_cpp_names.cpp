#include "formats/container/rwkv_cpp_names.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace rwkv {
namespace {

// As far as the converter distinguishes them: v5.1 and v5.2 are both "has a gate".
enum class Version { V4, V5NoGate, V5Gate, V6, V7 };

Version version_of(std::span<const RwkvCppTensor> tensors) {
  const auto has = [&](std::string_view name) {
    return std::any_of(tensors.begin(), tensors.end(),
                       [&](const RwkvCppTensor& tensor) { return tensor.name == name; });
  };
  if (has("blocks.0.att.k_k")) {
    return Version::V7;
  }
  if (has("blocks.0.att.time_maa_x")) {
    return Version::V6;
  }
  if (has("blocks.0.att.gate.weight")) {
    return Version::V5Gate;
  }
  return has("blocks.0.att.ln_x.weight") ? Version::V5NoGate : Version::V4;
}

bool ends_with_any(std::string_view name, std::span<const std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

Status wrong_shape(const RwkvCppTensor& tensor, std::string_view expected) {
  return bad_input("tensor {} at byte {}: has shape {}, expected {}; take the original .pth",
                   tensor.name, tensor.offset, shape_to_string(tensor.shape), expected);
}

AdaptedTensor adapted(const RwkvCppTensor& tensor, Undo undo) {
  return {TensorInfo{tensor.name, tensor.dtype, tensor.shape}, tensor.dtype, tensor.offset, undo};
}

Result<AdaptedTensor> transposed(const RwkvCppTensor& tensor, size_t dims) {
  if (tensor.shape.size() != dims) {
    return wrong_shape(tensor, dims == 2 ? "a matrix" : "three dimensions");
  }
  AdaptedTensor result = adapted(tensor, Undo::Transpose);
  std::swap(result.info.shape[dims - 2], result.info.shape[dims - 1]);
  return result;
}

// [heads, size, 1] or [heads, 1], to which the converter brought values per head. It squeezes
// first, so a model of one head comes as [size, 1]; its size is n_embed, which no other model of
// values per head has as its number of heads.
Result<AdaptedTensor> per_head(const RwkvCppTensor& tensor, Undo undo, uint64_t n_embed) {
  if (tensor.shape.size() < 2 || tensor.shape.size() > 3 || tensor.shape.back() != 1) {
    return wrong_shape(tensor, "heads x size x 1 or heads x 1");
  }
  AdaptedTensor result = adapted(tensor, undo);
  result.info.shape.pop_back();
  if (result.info.shape.size() == 1 && result.info.shape[0] == n_embed) {
    result.info.shape.insert(result.info.shape.begin(), 1);
  }
  return result;
}

// [heads, 1, 1] -> [heads]
Result<AdaptedTensor> one_per_head(const RwkvCppTensor& tensor, Undo undo) {
  if (tensor.shape.size() != 3 || tensor.shape[1] != 1 || tensor.shape[2] != 1) {
    return wrong_shape(tensor, "heads x 1 x 1");
  }
  AdaptedTensor result = adapted(tensor, undo);
  result.info.shape.resize(1);
  return result;
}

Result<AdaptedTensor> undo_v5(const RwkvCppTensor& tensor, Version version, uint64_t n_embed) {
  if (tensor.name.ends_with(".time_decay")) {
    return version == Version::V5Gate ? per_head(tensor, Undo::LogMinusLog, n_embed)
                                      : one_per_head(tensor, Undo::LogMinusLog);
  }
  if (tensor.name.ends_with(".time_first")) {
    return one_per_head(tensor, Undo::Log);
  }
  if (tensor.name.ends_with(".time_faaaa")) {
    return per_head(tensor, Undo::Nothing, n_embed);
  }
  return adapted(tensor, Undo::Nothing);
}

Result<AdaptedTensor> undo_v6(const RwkvCppTensor& tensor, uint64_t n_embed) {
  static constexpr std::array<std::string_view, 3> kTransposed = {
      ".att.time_maa_w1", ".att.time_decay_w1", ".att.time_decay_w2"};
  if (ends_with_any(tensor.name, kTransposed)) {
    return transposed(tensor, 2);
  }
  if (tensor.name.ends_with(".att.time_maa_w2")) {
    return transposed(tensor, 3);
  }
  if (tensor.name.ends_with(".att.time_faaaa")) {
    return per_head(tensor, Undo::Nothing, n_embed);
  }
  AdaptedTensor result = adapted(tensor, Undo::Nothing);
  if (tensor.name.ends_with(".att.time_decay")) {
    if (result.info.n_elements() != n_embed) {
      return wrong_shape(tensor, fmt::format("heads x size x 1 with {} elements", n_embed));
    }
    result.info.shape = {1, 1, n_embed};
  }
  return result;
}

Result<AdaptedTensor> undo_v7(const RwkvCppTensor& tensor) {
  static constexpr std::array<std::string_view, 8> kTransposed = {
      ".att.w1", ".att.w2", ".att.a1", ".att.a2", ".att.v1", ".att.v2", ".att.g1", ".att.g2"};
  if (ends_with_any(tensor.name, kTransposed)) {
    return transposed(tensor, 2);
  }
  return adapted(tensor, Undo::Nothing);
}

// v7's att.x_r ... x_g were concatenated in the checkpoint's order, which the joint name spells.
constexpr std::string_view kJoint = "rwkvag";

Status split_joint(const RwkvCppTensor& tensor, uint64_t n_embed,
                   std::vector<AdaptedTensor>& result) {
  const TensorInfo joint{tensor.name, tensor.dtype, tensor.shape};
  TensorInfo part{tensor.name, tensor.dtype, {1, 1, n_embed}};
  RWKV_TRY(check_tensor_size(part));
  if (joint.n_elements() % kJoint.size() != 0 || joint.n_elements() / kJoint.size() != n_embed) {
    return wrong_shape(tensor, fmt::format("{}x1x{}", kJoint.size(), n_embed));
  }
  const std::string stem = tensor.name.substr(0, tensor.name.size() - kJoint.size());
  for (size_t i = 0; i < kJoint.size(); ++i) {
    part.name = stem + kJoint[i];
    result.push_back({part, tensor.dtype, tensor.offset + i * part.n_bytes(), Undo::Nothing});
  }
  return {};
}

Result<AdaptedTensor> undo_one(const RwkvCppTensor& tensor, Version version, uint64_t n_embed) {
  switch (version) {
    case Version::V4:
      return adapted(tensor, tensor.name.ends_with(".time_decay") ? Undo::LogMinus : Undo::Nothing);
    case Version::V5NoGate:
    case Version::V5Gate:
      return undo_v5(tensor, version, n_embed);
    case Version::V6:
      return undo_v6(tensor, n_embed);
    case Version::V7:
      return undo_v7(tensor);
  }
  return adapted(tensor, Undo::Nothing);
}

}  // namespace

Result<std::vector<AdaptedTensor>> undo_rwkv_cpp_conversion(std::span<const RwkvCppTensor> tensors,
                                                            uint64_t n_embed) {
  const Version version = version_of(tensors);
  std::vector<AdaptedTensor> result;
  for (const RwkvCppTensor& tensor : tensors) {
    if (version == Version::V7 && tensor.name.ends_with(".att.x_rwkvag")) {
      RWKV_TRY(split_joint(tensor, n_embed, result));
      continue;
    }
    RWKV_ASSIGN(AdaptedTensor one, undo_one(tensor, version, n_embed));
    result.push_back(std::move(one));
  }
  return result;
}

}  // namespace rwkv
