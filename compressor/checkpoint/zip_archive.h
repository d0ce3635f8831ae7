// Reads untrusted zip files: the whole directory is checked at open, records are read in place, and
// the CRC32 of a record is verified before any of its bytes are returned. Stored and deflated
// records, zip64; no encryption, no archives in several parts. The numbers follow PKWARE's
// APPNOTE.TXT. It is our own reader, over zlib, for its checks: records may not overlap, and every
// size is compared with the file before it is used.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/base/file.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// One file in the archive.
struct ZipRecord {
  std::string name;
  uint64_t size = 0;
  uint64_t packed_size = 0;
  uint64_t header_offset = 0;
  uint64_t data_offset = 0;
  uint32_t crc = 0;
  bool deflated = false;
  bool crc_known = true;  ///< torch can be told to save without CRC32; it then writes zeros
};

class InflatingReader;

/// Safe to use from several threads.
class ZipArchive {
 public:
  ~ZipArchive();
  static Result<std::unique_ptr<ZipArchive>> open(std::shared_ptr<InputFile> file);

  const std::string& path() const { return file_->path(); }
  const std::vector<ZipRecord>& records() const { return records_; }
  /// Index of the record `name`, or SIZE_MAX.
  size_t find(std::string_view name) const;

  /// `out.size()` bytes of the record from `offset` on, which must lie within it. The first read
  /// of a record also reads all of it for the CRC, through a buffer of 1 MiB. A read of a deflated
  /// record goes on from an earlier one that ended at or before `offset`, or else inflates
  /// everything up to the end of the range.
  Status read(size_t record, uint64_t offset, std::span<std::byte> out) const;
  /// The whole record, which may have at most `max_bytes`.
  Result<std::vector<std::byte>> read_all(size_t record, uint64_t max_bytes) const;

 private:
  explicit ZipArchive(std::shared_ptr<InputFile> file);
  Status read_stored(const ZipRecord& record, uint64_t offset, std::span<std::byte> out,
                     bool verify) const;
  Status read_deflated(const ZipRecord& record, uint64_t offset, std::span<std::byte> out,
                       bool verify) const;
  std::unique_ptr<InflatingReader> take_pass(const ZipRecord& record, uint64_t offset) const;
  void keep_pass(std::unique_ptr<InflatingReader> pass) const;
  Status check_crc(const ZipRecord& record, uint32_t found) const;

  std::shared_ptr<InputFile> file_;
  std::vector<ZipRecord> records_;
  std::unordered_map<std::string, size_t> by_name_;
  std::unique_ptr<std::atomic<bool>[]> verified_;  // one per record
  mutable std::mutex passes_mutex_;
  mutable std::vector<std::unique_ptr<InflatingReader>> passes_;  // the latest last
};

}  // namespace rwkv::press
