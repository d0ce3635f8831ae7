// The statistics file: the result of a calibration pass over the uncompressed model, stored so that
// later runs need neither the text nor the pass. A sealed safetensors file
// (compressor/checkpoint/sealed_file.h) with
//   source.xxh64             u8 [8], the checkpoint it belongs to
//   tokens                   i32 [samples, length]
//   frequencies              f32 [n_vocab]
//   blocks.N.NAME.moments    f32 [in, in], the mean of x x^T over the inputs x of product NAME
//   blocks.N.ffn.active      f32 [dim_ffn], how often each neuron is not zero
//   blocks.N.ffn.energy      f32 [dim_ffn], the mean of its relu(k)^4
// and with MomentsOf::All also blocks.N.ffn.value.moments, and
//   head.moments             f32 [n_embd, n_embd]
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "compressor/calibrate/calibration.h"
#include "formats/base/file.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Products with moments in a statistics file: those of ffn.value take dim_ffn^2 floats a block,
/// and only quantizers need them.
enum class MomentsOf : uint8_t { AllButNeurons, All };
class ImatrixStatistics;

class Statistics : public std::enable_shared_from_this<Statistics> {
 public:
  /// Usage if the file does not belong to `checkpoint`, BadInput if it is damaged. llama.cpp's
  /// imatrix is a file of statistics too (imatrix.h).
  static Result<std::shared_ptr<const Statistics>> open(const std::string& path,
                                                        const ModelConfig& config,
                                                        const std::string& checkpoint);

  /// Whether these are only the mean squares of inputs: an imatrix. There is no text then.
  bool has_only_squares() const { return imatrix_ != nullptr; }
  /// Tokens and frequencies, and these statistics; with only squares, none but these statistics.
  Result<Calibration> calibration() const;
  /// E[x x^T] of a product's input, [in, in]; BadInput if the file has none of this size. With only
  /// squares, a diagonal matrix; for the head it may be undefined.
  Result<at::Tensor> moments(int64_t block, const std::string& product, int64_t n_in) const;
  /// The same for the head.
  Result<at::Tensor> head_moments(int64_t n_embd) const;
  /// The mean squares of an imatrix, f32 [n_in], of block -1's "head" too; undefined if there are
  /// none.
  at::Tensor squares(int64_t block, const std::string& product) const;

 private:
  explicit Statistics(std::unique_ptr<TensorSource> source) : source_(std::move(source)) {}
  Result<at::Tensor> moments_named(const std::string& name, int64_t n_in) const;
  /// Finite numbers of this shape, or of any if it is empty.
  Result<at::Tensor> tensor(const std::string& name, at::IntArrayRef shape) const;
  std::unique_ptr<TensorSource> source_;
  std::shared_ptr<const ImatrixStatistics> imatrix_;  ///< instead of the source
  int64_t n_vocab_ = 0;
};

/// Runs `calibration` through the model of `source`, on `device`, and writes the file, one block in
/// memory at a time. `progress` is called with the share done.
Status write_statistics(const TensorSource& source, const ModelConfig& config,
                        const Calibration& calibration, const std::string& path,
                        OutputFile::Existing existing,
                        const std::function<void(double share)>& progress,
                        MomentsOf moments = MomentsOf::AllButNeurons,
                        const at::Device& device = at::kCPU);

}  // namespace rwkv::press
