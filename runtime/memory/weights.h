// The weights of a packed file, mapped: matrices and vectors by name. Opening reads the header and
// checks it; tensor data is touched when the model first uses it.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/arch/identify.h"
#include "formats/base/file.h"
#include "formats/container/packed_tensors.h"
#include "runtime/kernels/kernels.h"

namespace rwkv::edge {

class Weights {
 public:
  static Result<std::shared_ptr<const Weights>> open(const std::string& path);

  const ModelConfig& config() const { return config_; }
  const GgufFile& file() const { return file_; }
  const std::vector<PackedTensor>& tensors() const { return tensors_; }
  std::span<const std::byte> bytes_of(const PackedTensor& tensor) const;

  bool contains(std::string_view name) const { return by_name_.find(name) != by_name_.end(); }
  /// A matrix in whatever codec it has; valid as long as the weights.
  Result<MatrixView> matrix(std::string_view name) const;
  /// A vector, which is always f32. Valid as long as the weights.
  Result<std::span<const float>> vector(std::string_view name) const;

  /// Bytes that one token touches: every tensor but the embedding, of which one row.
  uint64_t bytes_per_token() const;
  /// Bytes of all tensors.
  uint64_t total_bytes() const;

 private:
  Weights(std::shared_ptr<MappedFile> mapping, GgufFile file)
      : mapping_(std::move(mapping)), file_(std::move(file)) {}
  Status check_config();

  std::shared_ptr<MappedFile> mapping_;
  GgufFile file_;
  std::vector<PackedTensor> tensors_;
  std::vector<TensorBinding> bindings_;
  std::map<std::string, size_t, std::less<>> by_name_;
  ModelConfig config_;
};

}  // namespace rwkv::edge
