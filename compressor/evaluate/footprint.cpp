#include "compressor/evaluate/footprint.h"

#include <algorithm>
#include <fstream>

#include "runtime/bench/measure.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/model.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::press {
namespace {

bool has_something_sparse(const edge::Model& model) {
  const auto& tensors = model.weights().tensors();
  return model.config().n_cluster > 0 ||
         std::any_of(tensors.begin(), tensors.end(), [](const auto& tensor) {
           return tensor.name.find(".ffn.predictor.") != std::string::npos;
         });
}

Result<std::optional<edge::MemoryMode>> mode_for(const HeldAs& held, const std::string& packed) {
  for (const edge::ModeTraits& traits : edge::mode_list()) {
    if (held.mode == traits.name) {
      return std::optional(traits.mode);
    }
  }
  if (held.weight_bytes > 0) {
    return std::optional(edge::MemoryMode::Streamed);
  }
  if (held.memory_limit > 0) {
    return std::optional<edge::MemoryMode>();
  }
  // auto: mapped, so that looking costs nothing.
  RWKV_ASSIGN(const auto model, edge::Model::open(packed));
  return std::optional(has_something_sparse(*model) ? edge::MemoryMode::Sparse
                                                    : edge::MemoryMode::Loaded);
}

Result<std::shared_ptr<const edge::Model>> open_as(const std::string& packed, const HeldAs& held,
                                                   unsigned n_threads) {
  edge::MemoryOptions options;
  options.limit = held.memory_limit;
  options.stream.weight_bytes = held.weight_bytes;
  options.stream.bytes_per_second = held.read_speed;
  RWKV_ASSIGN(options.mode, mode_for(held, packed));
  options.n_threads = n_threads;
  return edge::Model::open(packed, options);
}

}  // namespace

std::span<const char* const> footprint_modes() {
  static const auto kNames = [] {
    std::vector<const char*> names = {"auto"};
    for (const edge::ModeTraits& traits : edge::mode_list()) {
      names.push_back(traits.name);
    }
    return names;
  }();
  return kNames;
}

Result<Footprint> footprint(const std::string& packed, const HeldAs& held) {
  RWKV_ASSIGN(const auto model, open_as(packed, held, 1));
  const edge::Weights& weights = model->weights();
  return Footprint{edge::mode_traits(weights.residency().mode).name, weights.account().total(),
                   weights.account().weights()};
}

Result<double> decode_speed(const std::string& packed, const HeldAs& held, unsigned n_threads,
                            uint64_t n_tokens) {
  RWKV_ASSIGN(const auto model, open_as(packed, held, n_threads));
  edge::BenchSubject subject(model, n_threads);
  RWKV_TRY(subject.decode(n_tokens));
  return edge::spread_of(subject.take_rates()).median;
}

SpeedMachine this_machine() {
  SpeedMachine machine;
  machine.threads = edge::available_threads();
  machine.kernels = edge::kernels().ok() ? edge::kernels().value()->name : "none";
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (machine.cpu.empty() && std::getline(info, line)) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      machine.cpu = line.substr(colon + 2);
    }
  }
  return machine;
}

}  // namespace rwkv::press
