// config.json next to a checkpoint of Hugging Face: what matters of it, and its check against the
// tensors.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "formats/arch/model_config.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct HfConfig {
  std::string path;
  std::string model_type;
  std::optional<uint64_t> hidden_size, n_layer, n_vocab, dim_ffn, head_size;
  double norm_eps = 1e-5;
  /// transformers' v5 and v6 divide by it before the group norm.
  double head_size_divisor = 8;
  /// The group norm's epsilon is head_size * norm_eps (v7 of transformers and of
  /// flash-linear-attention).
  bool eps_by_head_size = false;
  bool is_tied = false;
};

/// The file at `path`; BadInput for values of wrong types, for hybrids with attention layers and
/// for norms with another epsilon than RWKV's.
Result<HfConfig> read_hf_config(const std::string& path);

/// Compares sizes with those of the tensors and sets the epsilon of the group norm.
Status apply_hf_config(const HfConfig& config, ModelConfig& model);

}  // namespace rwkv::press
