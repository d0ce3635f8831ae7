// Reader of GGUF v3 (and v2, which has the same layout). Everything is checked once when the header
// is parsed: counts against the bytes left, offsets against the file, tensors against each other.
// Tensor data is never copied; a tensor is an offset and a size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/byte_reader.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "formats/container/gguf_metadata.h"
#include "formats/container/tensor_source.h"

namespace rwkv {

struct GgufTensor {
  std::string name;
  DType dtype = DType::F32;
  std::vector<uint64_t> dims;  ///< as on disk: innermost (contiguous) first, one to four
  uint64_t offset = 0;         ///< from the start of the file
  uint64_t n_bytes = 0;

  /// The same with the outermost dimension first, as TensorInfo has it.
  TensorInfo info() const;
};

class GgufFile {
 public:
  /// Parses the header in `bytes` (a whole file); `origin` names it in messages. Keeps no
  /// reference to `bytes`.
  static Result<GgufFile> parse(std::span<const std::byte> bytes, const std::string& origin);

  /// The same of an open file, by reading: a file that becomes shorter meanwhile gives a status,
  /// where a mapping raises SIGBUS. Holds at most twice the header in memory besides the result.
  static Result<GgufFile> read(const InputFile& file);

  const std::string& origin() const { return origin_; }
  const GgufMetadata& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  /// nullptr if there is none of that name.
  const GgufTensor* find(std::string_view name) const;
  uint64_t alignment() const { return alignment_; }

 private:
  static Result<GgufFile> parse(ByteReader& in, const std::string& origin);
  std::string origin_;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> by_name_;
  uint64_t alignment_ = 32;
};

/// True if `bytes` begins with GGUF's magic.
bool looks_like_gguf(std::span<const std::byte> bytes);

}  // namespace rwkv
