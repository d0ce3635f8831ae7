#include "runtime/account/account.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace rwkv::edge {
namespace {

constexpr std::array<ComponentTraits, kComponentCount> kComponents = {{
    {Component::Vectors, "vectors", true},
    {Component::Embedding, "embedding", true},
    {Component::TimeMix, "time_mix", true},
    {Component::ChannelMix, "channel_mix", true},
    {Component::Neurons, "neurons", true},
    {Component::Predictors, "predictors", true},
    {Component::ClusterHead, "cluster_head", true},
    {Component::Head, "head", true},
    {Component::Block, "block", true},
    {Component::Ring, "ring", true},
    {Component::Staging, "staging", false},
    {Component::Tokenizer, "tokenizer", false},
    {Component::Tables, "tables", false},
    {Component::State, "state", false},
    {Component::Scratch, "scratch", false},
    {Component::Program, "program", false},
}};

}  // namespace

std::span<const ComponentTraits> component_list() {
  return kComponents;
}

Component component_of(const TensorBinding& binding) {
  switch (binding.role) {
    case Role::Vector:
    case Role::Ignored:
      return binding.block < 0 && binding.name.starts_with("head.") ? Component::ClusterHead
                                                                    : Component::Vectors;
    case Role::Lora:
    case Role::Projection:
      return binding.name.find(".ffn.") != std::string::npos ? Component::ChannelMix
                                                             : Component::TimeMix;
    case Role::FfnKey:
    case Role::FfnValue:
      return Component::Neurons;
    case Role::Predictor:
    case Role::SignBits:
      return Component::Predictors;
    case Role::Embedding:
    case Role::TokenRows:
      return Component::Embedding;
    case Role::InitialState:
      return Component::State;
    case Role::ClusterHead:
      return Component::ClusterHead;
    case Role::Head:
      return Component::Head;
  }
  return Component::Vectors;
}

uint64_t Account::total() const {
  uint64_t bytes = 0;
  for (const ComponentBytes& row : rows()) {
    bytes += row.resident;
  }
  return bytes;
}

uint64_t Account::weights() const {
  uint64_t bytes = 0;
  for (const ComponentTraits& traits : kComponents) {
    bytes += traits.is_weights ? at(traits.component).resident : 0;
  }
  return bytes;
}

std::optional<ProcessMemory> process_memory() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen("/proc/self/smaps_rollup", "r"), std::fclose);
  if (!file) {
    return std::nullopt;
  }
  ProcessMemory memory;
  char line[256];
  while (std::fgets(line, sizeof(line), file.get()) != nullptr) {
    const auto read_kb = [&](const char* key, uint64_t& to) {
      const size_t n = std::strlen(key);
      if (std::strncmp(line, key, n) == 0) {
        to = std::strtoull(line + n, nullptr, 10) * 1024;
      }
    };
    read_kb("Rss:", memory.rss);
    read_kb("Anonymous:", memory.anonymous);
    read_kb("FilePmdMapped:", memory.large_file_pages);
  }
  return memory;
}

void trim_heap() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace rwkv::edge
