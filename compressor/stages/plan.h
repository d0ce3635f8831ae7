// What will be packed: every tensor with its codec. Stages change it, `rwkv-press plan` prints it,
// pack follows it.
#pragma once

#include <vector>

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
  std::vector<PlannedTensor> tensors;

  uint64_t total_bytes() const;
  /// What the same tensors take in f16, vectors included: the size all ratios refer to.
  uint64_t fp16_bytes() const;
  /// The codec with the most bytes; decides general.file_type.
  Codec main_codec() const;
};

/// Everything in f32.
PackPlan plan_for(const Identified& model);

}  // namespace rwkv::press
