// Finds the dict of tensors in the contents of a pickle and turns each tensor into a name, a shape
// and a place in a storage. Every number is checked here; pth_source.h only reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/checkpoint/pickle_value.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// A tensor and where its elements lie: element (i, j, ...) at byte
/// offset + element_bytes * (i * strides[0] + j * strides[1] + ...) of storage `storage_key`.
struct StoredTensor {
  TensorInfo info;
  std::string storage_key;
  uint64_t storage_bytes = 0;  ///< size of the storage according to the pickle
  uint64_t offset = 0;
  std::vector<uint64_t> strides;  ///< in elements, one per dimension
};

/// The tensors of the state dict in `root`, in its order. A dict under "model_state_dict",
/// "state_dict", "model" or "module" takes precedence over `root` itself, and that over any other
/// dict in it. Values that are not tensors are ignored. `where` starts every message.
Result<std::vector<StoredTensor>> read_state_dict(const PickleValue& root,
                                                  const std::string& where);

/// Elements and bytes per element that a Storage node claims.
struct StorageClaim {
  uint64_t elements = 0;
  uint64_t element_bytes = 1;
  uint64_t bytes = 0;
};
Result<StorageClaim> storage_claim(const PickleValue& storage);

}  // namespace rwkv::press
