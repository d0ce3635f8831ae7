#include "compressor/stages/needs.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "compressor/model/needs.h"
#include "formats/arch/tensor_spec.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kFloat = sizeof(float);
// As in compressor/calibrate/walk.
constexpr uint64_t kBatchTokens = 4096;

// Bytes of the activations that a walk holds between blocks.
uint64_t walk_bytes(const ModelConfig& config, uint64_t tokens) {
  return kFloat * tokens * (config.n_embd + (is_v7(config.version) ? config.dim_att : 0));
}

}  // namespace

PlanSizes PlanSizes::of(const PackPlan& plan) {
  PlanSizes sizes;
  std::vector<uint64_t> blocks(plan.config.n_layer);
  for (const PlannedTensor& tensor : plan.tensors) {
    const uint64_t n = tensor.binding.packed_rows() * tensor.binding.packed_cols();
    sizes.all += n;
    sizes.largest = std::max(sizes.largest, n);
    if (tensor.binding.block >= 0 && tensor.binding.role != Role::Predictor &&
        tensor.binding.role != Role::SignBits) {
      sizes.blocks += n;
      blocks[static_cast<size_t>(tensor.binding.block)] += n;
    }
  }
  sizes.largest_block = blocks.empty() ? 0 : *std::max_element(blocks.begin(), blocks.end());
  return sizes;
}

Needs walk_needs(const StageSubject& subject) {
  const ModelConfig& config = subject.plan.config;
  const PlanSizes sizes = PlanSizes::of(subject.plan);
  const uint64_t batch = std::min(kBatchTokens, std::max<uint64_t>(1, subject.tokens));
  // As many batches at a time as there are threads.
  const auto threads = static_cast<uint64_t>(std::max(1, at::get_num_threads()));
  const uint64_t at_once = std::min(threads, (subject.tokens + batch - 1) / batch);
  Needs needs;
  // Loading a tensor holds its bytes and its floats.
  needs.memory = walk_bytes(config, subject.tokens) + 2 * kFloat * sizes.largest_block +
                 forward_bytes(config, batch) * std::max<uint64_t>(1, at_once);
  needs.files = kFloat * sizes.blocks;
  needs.parallel = forward_effort(config, sizes.blocks, subject.tokens);
  return needs;
}

Needs moments_needs(const StageSubject& subject) {
  const ModelConfig& config = subject.plan.config;
  std::vector<uint64_t> held(config.n_layer);
  Needs needs;
  for (const PlannedTensor& tensor : subject.plan.tensors) {
    const TensorBinding& binding = tensor.binding;
    const bool is_product =
        binding.block >= 0 && binding.shape.size() == 2 && binding.part != Part::FactorB &&
        (role_traits(binding.role).techniques != 0) && binding.role != Role::Lora &&
        binding.role != Role::Predictor && binding.role != Role::SignBits;
    if (!is_product) {
      continue;
    }
    const uint64_t inputs = binding.shape[1];
    needs.parallel.products +=
        static_cast<double>(subject.tokens) * static_cast<double>(inputs * inputs);
    held[static_cast<size_t>(binding.block)] += 2 * kFloat * inputs * inputs;
  }
  needs.memory = held.empty() ? 0 : *std::max_element(held.begin(), held.end());
  return needs;
}

}  // namespace rwkv::press
