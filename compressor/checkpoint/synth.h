// Synthetic checkpoints: random weights with the statistics of trained ones, so that speed, memory
// and sparsity can be measured at the sizes of published models without a download. Their quality
// is meaningless.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "compressor/checkpoint/new_model.h"
#include "formats/base/file.h"

namespace rwkv::press {

struct SynthOptions {
  NewModelOptions model;
  std::string dtype = "bf16";
  uint64_t seed = 0;
  std::string output;  ///< .pth, .safetensors or .st
  OutputFile::Existing existing = OutputFile::Existing::Refuse;
  std::function<void(double share)> progress = [](double) {};
};

/// Writes the checkpoint, with one tensor in memory at a time, and returns its configuration.
///
/// Statistics: decays spread over their real range per layer, from channels that forget immediately
/// to channels that remember thousands of tokens; ffn.key rows biased against the mean of their
/// input, so that about 80 % of the neurons are zero; embedding rows with norms that fall with the
/// token's rank as in Zipf's law; matrices normal with deviation 1 / sqrt(inputs).
/// The same options give the same bytes on every machine.
Result<ModelConfig> write_synthetic(const SynthOptions& options);

}  // namespace rwkv::press
