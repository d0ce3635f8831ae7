// Common to both forms of a .pth file: tensors with checked places in storages, read one at a time.
// pth_reader.cpp (zip) and pth_legacy.cpp say where the bytes of a storage are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/checkpoint/state_dict.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// The storages of an open file. Safe to use from several threads.
class StorageFile {
 public:
  virtual ~StorageFile() = default;
  /// The number of storage `key`, which must have exactly `bytes` bytes.
  virtual Result<size_t> find(const std::string& key, uint64_t bytes) const = 0;
  /// False where every read() starts over at the storage's first byte.
  virtual bool has_random_access(size_t storage) const = 0;
  /// Fills `out` from `offset` on, within the storage.
  virtual Status read(size_t storage, uint64_t offset, std::span<std::byte> out) const = 0;
};

/// Finds the storage of every tensor and makes the source.
Result<std::unique_ptr<TensorSource>> make_pth_source(const std::string& path,
                                                      std::unique_ptr<StorageFile> storages,
                                                      std::vector<StoredTensor> tensors);

}  // namespace rwkv::press
