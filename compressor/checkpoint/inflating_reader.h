// Reads a deflated record of a zip file from its beginning to its end, in steps of any length.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "compressor/checkpoint/zip_archive.h"
#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// One pass over one record. `file` and `record` must outlive it.
class InflatingReader {
 public:
  InflatingReader(const InputFile& file, const ZipRecord& record);
  ~InflatingReader();
  InflatingReader(const InflatingReader&) = delete;
  InflatingReader& operator=(const InflatingReader&) = delete;

  const ZipRecord& record() const { return record_; }
  /// Bytes inflated so far.
  uint64_t position() const { return done_; }
  /// Inflates on to `offset`, at or after the position, and drops what lies between.
  Status skip_to(uint64_t offset);
  /// The next bytes.
  Status next(std::span<std::byte> out);
  /// Inflates the rest: `crc` is that of the whole record. The record must end where it says.
  Status finish(uint32_t& crc);

 private:
  Status damaged() const;
  // As much as one call of zlib gives, at most out.size() bytes.
  Status step(std::span<std::byte> out, size_t& n);

  const InputFile& file_;
  const ZipRecord& record_;
  z_stream stream_ = {};
  bool is_ready_;
  bool is_at_end_ = false;
  uint64_t packed_done_ = 0;
  uint64_t done_ = 0;
  uint32_t crc_ = 0;
  std::vector<std::byte> packed_;
};

/// Bytes that this process has inflated in all: what reading compressed checkpoints has cost.
uint64_t inflated_bytes();

}  // namespace rwkv::press
