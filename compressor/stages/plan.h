// The plan of the packed file: every tensor with its codec. Stages change it, `rwkv-press plan`
// prints it, pack follows it.
#pragma once

#include <string_view>
#include <vector>

#include "formats/arch/access.h"
#include "formats/arch/identify.h"
#include "formats/codec/codec.h"

namespace rwkv::press {

struct PlannedTensor {
  TensorBinding binding;
  Codec codec = Codec::F32;

  uint64_t encoded_bytes() const {
    return codec_traits(codec).encoded_bytes(binding.packed_rows(), binding.packed_cols());
  }
};

struct PackPlan {
  ModelConfig config;
  std::vector<PlannedTensor> tensors;  ///< in the order of use
  uint64_t dense_fp16_bytes = 0;       ///< of the model before any stage
  RowShares shares;                    ///< that a token reads, where a stage measured it

  uint64_t total_bytes() const;
  /// Bytes of the model in f16 before any stage, vectors included: the size that all ratios refer
  /// to.
  uint64_t fp16_bytes() const { return dense_fp16_bytes; }
  /// Number of elements to pack.
  uint64_t n_numbers() const;
  /// The tensor of that name, nullptr if there is none.
  const PlannedTensor* find(std::string_view name) const;
  /// Replaces the tensor of that name by `tensors`, each in its place in the order of use.
  void replace(std::string_view name, std::vector<PlannedTensor> tensors);
  /// Inserts each of `tensors` at its place in the order of use.
  void add(std::vector<PlannedTensor> tensors);
};

/// The model as it will be packed, for who computes with it.
std::vector<TensorBinding> bindings_of(const PackPlan& plan);

/// Everything in f32.
PackPlan plan_for(const Identified& model);

}  // namespace rwkv::press
