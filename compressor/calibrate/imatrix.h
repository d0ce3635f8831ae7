// llama.cpp's imatrix made from a model and a text, and read as statistics of a model's products:
// the mean squares of their inputs, which is the diagonal of what a statistics file has.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "compressor/calibrate/calibration.h"
#include "compressor/checkpoint/imatrix_file.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// llama.cpp's name of a product's matrix: of block 3's "att.key" "blk.3.time_mix_key.weight", of
/// "head" "output.weight". Empty for versions that it does not run, and names that it does not
/// have.
std::string llama_cpp_matrix(const ModelConfig& config, int64_t block, const std::string& product);

class ImatrixStatistics {
 public:
  /// Usage if it belongs to another model: it must have the inputs of all products of all blocks,
  /// and none of further blocks. The head may be missing. BadInput if it is damaged.
  static Result<std::shared_ptr<const ImatrixStatistics>> open(const std::string& path,
                                                               const ModelConfig& config);

  /// The mean squares of a product's inputs, f32 [n_in]; undefined if the file has none.
  at::Tensor squares(int64_t block, const std::string& product) const;

 private:
  ImatrixStatistics(Imatrix imatrix, const ModelConfig& config)
      : imatrix_(std::move(imatrix)), config_(config) {}
  Imatrix imatrix_;
  ModelConfig config_;
};

/// Runs `calibration` through the model of `source`, on `device`, one block in memory at a time,
/// and writes the imatrix of its products and its head; `text` names what was read. Usage for
/// versions that llama.cpp does not run.
Status write_imatrix_of(const TensorSource& source, const ModelConfig& config,
                        const Calibration& calibration, const std::string& text,
                        const std::string& path, OutputFile::Existing existing,
                        const std::function<void(double share)>& progress,
                        const at::Device& device = at::kCPU);

}  // namespace rwkv::press
