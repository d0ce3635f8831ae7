// Writer of packed files: metadata, arrays with one element per tensor, the list of tensors and
// their checksums. Together with packed_tensors, its reader, the only code that knows the layout
// (docs/packed_format.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/base/file.h"
#include "formats/codec/codec.h"
#include "formats/container/gguf_writer.h"
#include "formats/container/tensor_source.h"

namespace rwkv {

/// A tensor that will be written, and what it was in the checkpoint.
struct PackedTensorPlan {
  std::string name;
  Codec codec = Codec::F32;
  std::vector<uint64_t> shape;  ///< as packed (transposed where the table says), outermost first
  TensorInfo source;            ///< type and shape in the checkpoint, for export
  uint64_t source_order = 0;    ///< its place there

  uint64_t n_bytes() const;
};

/// A packed file but for the tensors' bytes.
struct PackedFilePlan {
  std::string model_name;
  std::string tool_version;  ///< of the program that writes
  std::string recipe;        ///< YAML, every setting in force
  uint64_t seed = 0;
  std::string source_format;
  std::string source_file;  ///< without folders
  uint64_t source_xxh64 = 0;
  std::string chat_template;  ///< its name; empty: none is stored
  GgufMetadata config;        ///< of config_to_metadata()
  GgufMetadata vocabulary;    ///< of vocabulary_to_metadata(), or empty
  std::vector<PackedTensorPlan> tensors;
};

/// Writes everything in front of the tensors' data. The caller then appends the bytes of each
/// tensor, in the order of the plan, and calls finish().
Result<std::unique_ptr<GgufWriter>> begin_packed_file(const std::string& path,
                                                      OutputFile::Existing existing,
                                                      const PackedFilePlan& plan);

/// Bytes of the whole file, from the plan alone, with `more_metadata` bytes of metadata on top.
Result<uint64_t> packed_file_bytes(const PackedFilePlan& plan, uint64_t more_metadata = 0);

}  // namespace rwkv
