// A model to be created: its sizes, derived from the few that the user gives, and the list of its
// tensors. The caller chooses their values (synth.h, train/initial_values.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/arch/model_config.h"
#include "formats/arch/tensor_spec.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

struct NewModelOptions {
  std::string arch;  ///< a version's name, x058 or x059
  uint64_t n_layer = 0;
  uint64_t n_embd = 0;
  uint64_t n_vocab = 0;
  uint64_t dim_ffn = 0;    ///< 0: as in published models of the version
  uint64_t head_size = 0;  ///< 0: 64
  uint64_t rank = 0;       ///< 0: n_embd / 8; x058 and x059 only
};

struct NewTensor {
  std::string name;
  Role role = Role::Vector;
  Layout layout = Layout::AsIs;
  std::vector<uint64_t> shape;  ///< canonical: vectors are flat
  int64_t block = -1;           ///< -1 for tensors of the whole model
};

/// Usage names the size that is invalid.
Result<ModelConfig> new_model_config(const NewModelOptions& options);

/// Every tensor of the model, in the order in which checkpoints have them; `rank` as in the
/// options.
std::vector<NewTensor> new_model_tensors(const ModelConfig& config, uint64_t rank);

}  // namespace rwkv::press
