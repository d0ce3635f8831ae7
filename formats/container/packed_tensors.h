// The tensors of a packed file with the codec of each: GGUF's list read together with our arrays,
// checked against each other. Used by the runtime, and by the compressor to unpack.
#pragma once

#include <string>
#include <vector>

#include "formats/codec/codec.h"
#include "formats/container/gguf_reader.h"

namespace rwkv {

struct PackedTensor {
  std::string name;
  Codec codec = Codec::F32;
  uint64_t rows = 0;
  uint64_t cols = 0;
  std::vector<uint64_t> shape;  ///< outermost first, as packed (transposed where the table says)
  uint64_t offset = 0;          ///< from the start of the file
  uint64_t n_bytes = 0;
  uint64_t xxh64 = 0;
};

/// True if `file` says it is one of ours.
bool is_packed(const GgufFile& file);

/// In file order. BadInput if the file is of a format version that is not read (a newer one: says
/// which program does), or its parts disagree.
Result<std::vector<PackedTensor>> packed_tensors(const GgufFile& file);

/// Checks the shared part of a matrix, of shared_bytes(), before kernels use it; BadInput names the
/// tensor.
Status check_shared_part(const PackedTensor& tensor, std::span<const std::byte> shared);

/// Checks a tensor's bytes against its checksum.
Status verify_tensor(const PackedTensor& tensor, std::span<const std::byte> bytes);

}  // namespace rwkv
