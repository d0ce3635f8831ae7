// adapter_config.json of Hugging Face's PEFT, next to the tensors of an adapter: what they are
// scaled by, and what kind of adapter they are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

struct AdapterConfig {
  std::string path;
  uint64_t rank = 0;
  double alpha = 0.0;
  bool has_other_ranks = false;  ///< some matrices have another rank (rank_pattern)
  bool by_root = false;          ///< scaled by alpha / sqrt(rank) (use_rslora)
  /// Ends of the names of modules that were trained; empty if they are given as a pattern.
  std::vector<std::string> targets;

  /// What B A is multiplied by.
  double scale(uint64_t rank_of_pair) const;
};

/// Reads and checks the file. BadInput, with the key, for a peft_type other than LORA, for what
/// changes a LoRA in ways that merging here does not know (DoRA, initial values that change the
/// base, scales by pattern), and for values of a wrong kind.
Result<AdapterConfig> read_adapter_config(const std::string& path);

/// An adapter that was opened: its tensors, and the configuration next to them if there is one.
struct OpenedAdapter {
  std::unique_ptr<TensorSource> source;
  std::optional<AdapterConfig> config;
};

/// Opens what --merge names: a file of tensors, or a folder as PEFT writes it. The configuration is
/// read for a folder, and for files named adapter_model.*. BadInput for a folder without an adapter
/// and for tensors that the configuration does not fit.
Result<OpenedAdapter> open_adapter(const std::string& path);

}  // namespace rwkv::press
