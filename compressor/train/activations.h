// Activations of a training block by block, in files: bf16, some sequences at a time, sealed with a
// checksum. Only what is asked for is in memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// What a file has of every sequence: a matrix [rows, cols].
struct ActivationPart {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
};

struct ActivationShape {
  uint64_t n_sequences = 0;
  uint64_t per_chunk = 1;  ///< sequences that are computed together
  std::vector<ActivationPart> parts;

  uint64_t n_chunks() const { return (n_sequences + per_chunk - 1) / per_chunk; }
  uint64_t size_of_chunk(uint64_t chunk) const {
    return std::min(per_chunk, n_sequences - chunk * per_chunk);
  }
};

/// Values of a chunk: f32 [sequences, rows, cols] for each part, in their order.
using ActivationChunk = std::vector<at::Tensor>;

/// Writes a file whole or not at all. `make` is called for each chunk in order. `energy` is read
/// after the last one. `settings` say what the values depend on.
Status write_activations(const std::string& path, const ActivationShape& shape,
                         const std::string& settings,
                         const std::function<Result<ActivationChunk>(uint64_t chunk)>& make,
                         const double& energy);

class ActivationFile {
 public:
  /// Reads the whole file once to compare its checksum. BadInput, naming the file, if it is damaged
  /// or has another shape; Usage if it was written with other settings.
  static Result<ActivationFile> open(const std::string& path, const ActivationShape& shape,
                                     const std::string& settings);
  uint64_t n_chunks() const { return shape_.n_chunks(); }
  /// f32 [sequences, rows, cols] of part `part`.
  Result<at::Tensor> chunk(size_t part, uint64_t chunk) const;
  Result<at::Tensor> gather(size_t part, std::span<const uint64_t> sequences) const;
  double energy() const { return energy_; }

 private:
  std::shared_ptr<const TensorSource> source_;
  ActivationShape shape_;
  double energy_ = 0.0;
};

}  // namespace rwkv::press
