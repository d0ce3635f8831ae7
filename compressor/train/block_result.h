// A trained block on disk: sealed, complete, and the same whoever trained it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compressor/model/network.h"
#include "compressor/train/block_loss.h"

namespace rwkv::press {

struct BlockResult {
  std::string settings;           ///< of the training, to be the same for who takes it
  BlockErrors before, after;      ///< of the first step and over the last ones
  std::vector<Parameter> values;  ///< the tensors that were trained, f32
  std::map<std::string, std::vector<std::byte>> codes;  ///< those that have codes
};

/// FOLDER/block-0007.safetensors
std::string block_path(const std::string& folder, int64_t block);

Status save_block(const std::string& path, const BlockResult& result);

/// BadInput, naming the file, if it is damaged or has tensors for which `numbers_of` gives nothing
/// or another count; Usage, with the first difference, if its settings are others.
Result<BlockResult> load_block(
    const std::string& path, const std::string& settings,
    const std::function<std::optional<uint64_t>(const std::string& name)>& numbers_of);

}  // namespace rwkv::press
