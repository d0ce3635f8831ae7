// The account of memory: resident bytes, and how many of them are cache, by component. It is
// decided when a model is opened. The bytes that tokens then touch and read are in traffic.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "formats/arch/identify.h"

namespace rwkv::edge {

enum class Component : uint8_t {
  Vectors,      ///< norms, mixing coefficients, decays
  Embedding,    ///< rows of the embedding, and v7a's rows of each token
  TimeMix,      ///< projections and lora matrices of time_mix
  ChannelMix,   ///< ffn.receptance, small matrices of v7a
  Neurons,      ///< ffn.key and ffn.value
  Predictors,   ///< of active neurons
  ClusterHead,  ///< probability of each cluster, order of the rows
  Head,         ///< rows of the head
  Block,        ///< layerwise: the block in memory
  Ring,         ///< streamed: pieces that are read ahead of their use
  Staging,      ///< rows being read from storage
  Tokenizer,
  Tables,   ///< names and places of tensors
  State,    ///< recurrent state of one sequence, and the one that texts begin with
  Scratch,  ///< activations and logits
  Program,  ///< the program itself, measured before the model was opened
};
inline constexpr size_t kComponentCount = 16;

/// One row per component: the list of them.
struct ComponentTraits {
  Component component;
  const char* name;
  bool is_weights;
};
std::span<const ComponentTraits> component_list();

/// The component that a tensor counts for.
Component component_of(const TensorBinding& binding);

/// One T for each component.
template <typename T>
class ByComponent {
 public:
  T& at(Component component) { return rows_[static_cast<size_t>(component)]; }
  const T& at(Component component) const { return rows_[static_cast<size_t>(component)]; }
  const std::array<T, kComponentCount>& rows() const { return rows_; }

 private:
  std::array<T, kComponentCount> rows_{};
};

struct ComponentBytes {
  uint64_t resident = 0;  ///< held all the time, caches included
  uint64_t cached = 0;    ///< the part of it that is cache
};

class Account : public ByComponent<ComponentBytes> {
 public:
  /// Resident bytes of all components, and of weights only.
  uint64_t total() const;
  uint64_t weights() const;
};

/// The figures of the system for this process, from /proc/self/smaps_rollup; none if there is no
/// such file.
struct ProcessMemory {
  uint64_t rss = 0;
  uint64_t anonymous = 0;
  uint64_t large_file_pages = 0;  ///< of mapped files
};
std::optional<ProcessMemory> process_memory();

/// Returns freed heap memory to the system if the C library can.
void trim_heap();

}  // namespace rwkv::edge
