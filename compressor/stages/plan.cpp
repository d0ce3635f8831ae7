#include "compressor/stages/plan.h"

#include <algorithm>
#include <array>
#include <utility>

#include "formats/arch/order_of_use.h"

namespace rwkv::press {

std::vector<TensorBinding> bindings_of(const PackPlan& plan) {
  std::vector<TensorBinding> bindings;
  for (const PlannedTensor& tensor : plan.tensors) {
    bindings.push_back(tensor.binding);
  }
  return bindings;
}

PackPlan plan_for(const Identified& model) {
  PackPlan plan;
  plan.config = model.config;
  for (const TensorBinding& binding : model.tensors) {
    plan.tensors.push_back({binding, Codec::F32});
  }
  plan.dense_fp16_bytes = 2 * plan.n_numbers();
  return plan;
}

const PlannedTensor* PackPlan::find(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const PlannedTensor& t) { return t.binding.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

void PackPlan::replace(std::string_view name, std::vector<PlannedTensor> replacements) {
  tensors.erase(tensors.begin() + (find(name) - tensors.data()));
  add(std::move(replacements));
}

void PackPlan::add(std::vector<PlannedTensor> added) {
  const auto is_before = [](const PlannedTensor& a, const PlannedTensor& b) {
    return is_used_before(a.binding, b.binding);
  };
  for (PlannedTensor& tensor : added) {
    const auto at = std::upper_bound(tensors.begin(), tensors.end(), tensor, is_before);
    tensors.insert(at, std::move(tensor));
  }
}

uint64_t PackPlan::total_bytes() const {
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : tensors) {
    bytes += tensor.encoded_bytes();
  }
  return bytes;
}

uint64_t PackPlan::n_numbers() const {
  uint64_t numbers = 0;
  for (const PlannedTensor& tensor : tensors) {
    numbers += tensor.binding.packed_rows() * tensor.binding.packed_cols();
  }
  return numbers;
}

}  // namespace rwkv::press
