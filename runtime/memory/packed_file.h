// A packed file, opened and checked before anything is loaded: its tensors, their model, and their
// places.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/arch/access.h"
#include "formats/arch/identify.h"
#include "formats/base/file.h"
#include "formats/container/packed_tensors.h"
#include "formats/container/shard_index.h"

namespace rwkv::edge {

struct PackedFile {
  std::string path;
  GgufMetadata metadata;
  ModelConfig config;
  std::vector<PackedTensor> tensors;    ///< in file order, narrower copies last
  std::vector<TensorBinding> bindings;  ///< binding i is of tensor bindings[i].source; no copies
  std::vector<ShardedMatrix> shards;    ///< empty: no narrower copies
  RowShares shares;                     ///< that a token reads, as conversion measured; 1: unknown

  /// BadInput if the file is damaged or its metadata and its tensors disagree.
  static Result<PackedFile> open(const std::string& path);
};

}  // namespace rwkv::edge
