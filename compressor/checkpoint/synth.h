// Synthetic checkpoints: random weights with the statistics of trained ones, so that speed, memory
// and sparsity at true sizes can be measured without a download. Quality means nothing here.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "formats/arch/model_config.h"
#include "formats/base/file.h"

namespace rwkv::press {

struct SynthOptions {
  std::string arch;  ///< a version's name, x058 or x059
  std::string dtype = "bf16";
  uint64_t n_layer = 0;
  uint64_t n_embd = 0;
  uint64_t n_vocab = 0;
  uint64_t dim_ffn = 0;    ///< 0: as published models of the version have it
  uint64_t head_size = 0;  ///< 0: 64
  uint64_t rank = 0;       ///< 0: n_embd / 8; x058 and x059 only
  uint64_t seed = 0;
  std::string output;  ///< .pth, .safetensors or .st
  OutputFile::Existing existing = OutputFile::Existing::Refuse;
  std::function<void(double share)> progress = [](double) {};
};

/// Writes the checkpoint, one tensor in memory at a time, and returns what it wrote.
///
/// Statistics: decays spread over their true range per layer, from channels that forget at once
/// to channels that keep thousands of tokens; ffn.key rows biased against the mean of their input,
/// so that about 80 % of the neurons are zero; embedding rows with norms that fall with the
/// token's rank as in Zipf's law; matrices normal with 1 / sqrt(inputs).
/// The same options give the same bytes on every machine.
Result<ModelConfig> write_synthetic(const SynthOptions& options);

}  // namespace rwkv::press
