// Streaming writer of GGUF v3. The header (metadata and tensor list) is written first, then tensor
// data as it arrives, in order; no tensor is kept in memory. Checksums, known only after the data,
// are patched into their metadata array at the end. The file appears under its name when finished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/base/checksum.h"
#include "formats/base/file.h"
#include "formats/container/gguf_metadata.h"

namespace rwkv {

/// A tensor to be written: its bytes follow later through GgufWriter::append.
struct GgufTensorPlan {
  std::string name;
  GgmlType type = GgmlType::F32;
  std::vector<uint64_t> dims;  ///< innermost first
  uint64_t n_bytes = 0;
};

/// Metadata key of the array of XXH64, one per tensor in file order; the writer adds it.
inline constexpr const char* kTensorXxh64Key = "press.tensor.xxh64";

class GgufWriter {
 public:
  /// Writes the header. `metadata` may contain general.alignment (a power of two, default 32).
  static Result<std::unique_ptr<GgufWriter>> create(const std::string& path,
                                                    OutputFile::Existing existing,
                                                    GgufMetadata metadata,
                                                    std::vector<GgufTensorPlan> tensors);

  /// Bytes of the whole file that create() would begin, with `more_metadata` bytes of metadata on
  /// top.
  static Result<uint64_t> file_bytes(GgufMetadata metadata, std::span<const GgufTensorPlan> tensors,
                                     uint64_t more_metadata = 0);
  /// Bytes that these entries take in a header.
  static uint64_t metadata_bytes(const GgufMetadata& metadata);

  /// Appends bytes of the current tensor, any number at a time. After its n_bytes the next tensor
  /// begins. More bytes than announced in total give a Failed status.
  Status append(std::span<const std::byte> bytes);

  /// After all tensors: writes the checksums and commits the file.
  Status finish();

  uint64_t bytes_written() const { return file_->position(); }

 private:
  GgufWriter() = default;
  Status begin_tensor();
  std::unique_ptr<OutputFile> file_;
  std::vector<GgufTensorPlan> tensors_;
  uint64_t alignment_ = 32;
  uint64_t checksums_at_ = 0;
  size_t current_ = 0;
  uint64_t current_bytes_ = 0;
  std::unique_ptr<StreamingXxh64> hash_;
  std::vector<uint64_t> checksums_;
};

}  // namespace rwkv
