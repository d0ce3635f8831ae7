#include "compressor/stages/plan.h"

#include <array>

namespace rwkv::press {

PackPlan plan_for(const Identified& model) {
  PackPlan plan;
  plan.config = model.config;
  for (const TensorBinding& binding : model.tensors) {
    plan.tensors.push_back({binding, Codec::F32});
  }
  return plan;
}

uint64_t PackPlan::total_bytes() const {
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : tensors) {
    bytes += tensor.encoded_bytes();
  }
  return bytes;
}

uint64_t PackPlan::fp16_bytes() const {
  uint64_t numbers = 0;
  for (const PlannedTensor& tensor : tensors) {
    numbers += tensor.binding.packed_rows() * tensor.binding.packed_cols();
  }
  return 2 * numbers;
}

Codec PackPlan::main_codec() const {
  Codec main = Codec::F32;
  uint64_t most = 0;
  for (const CodecTraits& codec : codec_list()) {
    uint64_t bytes = 0;
    for (const PlannedTensor& tensor : tensors) {
      bytes += tensor.codec == codec.codec ? tensor.encoded_bytes() : 0;
    }
    if (bytes > most) {
      most = bytes;
      main = codec.codec;
    }
  }
  return main;
}

}  // namespace rwkv::press
