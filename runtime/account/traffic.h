// Counters of the bytes that tokens move, by component: weights touched, in any place, and bytes
// read from storage. A pass counts for itself; Weights::traffic() has the sum.
#pragma once

#include <cstdint>
#include <span>

#include "formats/container/packed_tensors.h"
#include "runtime/account/account.h"

namespace rwkv::edge {

struct ComponentTraffic {
  uint64_t touched = 0;  ///< bytes of weights used
  uint64_t read = 0;     ///< bytes from storage
  uint64_t hits = 0;     ///< rows found in a cache
  uint64_t misses = 0;   ///< rows that were read
};

using BytesByComponent = ByComponent<uint64_t>;

class Traffic : public ByComponent<ComponentTraffic> {
 public:
  void touch(Component component, uint64_t n_bytes) { at(component).touched += n_bytes; }
  void touch(const BytesByComponent& bytes);
  void add(const Traffic& other);

  /// Bytes of all components.
  uint64_t touched() const;
  uint64_t read() const;
};

/// The bytes that a pass touches, as far as shapes decide it: tensors that are used completely.
/// Rows on demand are counted where they are used.
struct WholeTensors {
  BytesByComponent blocks;      ///< in every pass
  BytesByComponent head;        ///< in passes that end in logits, besides
  uint64_t most_per_token = 0;  ///< bytes that one token touches at most, rows on demand included
};
/// `bindings[i]` is of tensor `tensors[bindings[i].source]`.
WholeTensors whole_tensors(const ModelConfig& config, std::span<const TensorBinding> bindings,
                           std::span<const PackedTensor> tensors);

}  // namespace rwkv::edge
