#include "runtime/account/traffic.h"

#include "formats/arch/access.h"

namespace rwkv::edge {

void Traffic::touch(const BytesByComponent& bytes) {
  for (const ComponentTraits& traits : component_list()) {
    touch(traits.component, bytes.at(traits.component));
  }
}

void Traffic::add(const Traffic& other) {
  for (const ComponentTraits& traits : component_list()) {
    ComponentTraffic& row = at(traits.component);
    const ComponentTraffic& more = other.at(traits.component);
    row.touched += more.touched;
    row.read += more.read;
    row.hits += more.hits;
    row.misses += more.misses;
  }
}

uint64_t Traffic::touched() const {
  uint64_t bytes = 0;
  for (const ComponentTraffic& row : rows()) {
    bytes += row.touched;
  }
  return bytes;
}

uint64_t Traffic::read() const {
  uint64_t bytes = 0;
  for (const ComponentTraffic& row : rows()) {
    bytes += row.read;
  }
  return bytes;
}

WholeTensors whole_tensors(const ModelConfig& config, std::span<const TensorBinding> bindings,
                           std::span<const PackedTensor> tensors) {
  const ModelAccess model(config, bindings);
  WholeTensors whole;
  for (const TensorBinding& binding : bindings) {
    const PackedTensor& tensor = tensors[binding.source];
    const Access access = model.of(binding);
    const Component component = component_of(binding);
    const bool is_head = component == Component::Head || component == Component::ClusterHead;
    if (access == Access::EveryToken) {
      (is_head ? whole.head : whole.blocks).at(component) += tensor.n_bytes;
    }
    if (access != Access::Never) {
      whole.most_per_token +=
          access == Access::OneRow ? tensor.n_bytes / tensor.rows : tensor.n_bytes;
    }
  }
  return whole;
}

}  // namespace rwkv::edge
