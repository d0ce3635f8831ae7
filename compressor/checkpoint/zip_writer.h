// Writes zip files of stored records the way torch.save does: data aligned to 64 bytes, so that
// it can be mapped. The same records give the same bytes; there are no times in the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

class ZipWriter {
 public:
  /// Numbers of this size or more go into a zip64 field. Tests lower the limit.
  static constexpr uint64_t kZip64From = 0xffffffff;

  explicit ZipWriter(OutputFile& file, uint64_t zip64_from = kZip64From)
      : file_(file), zip64_from_(zip64_from) {}

  /// Names must be unique and have at most 64 KiB.
  Status add(const std::string& name, std::span<const std::byte> data);
  /// Writes the directory. The file is not yet committed.
  Status finish();

 private:
  struct Entry {
    std::string name;
    uint64_t offset;
    uint64_t size;
    uint32_t crc;
  };
  void append_entry(const Entry& entry, std::string& out) const;
  Status write(const std::string& bytes);

  OutputFile& file_;
  uint64_t zip64_from_;
  std::vector<Entry> entries_;
};

}  // namespace rwkv::press
