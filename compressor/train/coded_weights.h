// All matrices of a network that have codes, between the network, which computes with their values
// and in the orientation of a checkpoint, and the optimiser, which moves what they are rounded
// from. Codes are chosen on the CPU, whatever device the network is on.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compressor/model/network.h"
#include "compressor/train/coded_tensor.h"
#include "formats/base/status.h"

namespace rwkv::press {

class CodedWeights {
 public:
  explicit CodedWeights(TrainCodes what) : what_(what) {}

  /// How the matrix of a checkpoint lies in the packed one.
  struct Place {
    std::vector<int64_t> shape;  ///< in the checkpoint
    bool is_transposed = false;  ///< the last two dimensions are swapped
    at::Tensor rows;             ///< int64: packed row i is row rows[i]; undefined: the same order
  };
  void add(CodedStart start, Place place);
  bool has(const std::string& name) const { return tensors_.contains(name); }

  /// Connects them with the leaves of a network or block, and rounds. The parameters to optimise:
  /// those of the matrices that `moves` names, and the other leaves that it names, vectors alone
  /// with TrainCodes::Scales. What remains is fixed. To be called once.
  Result<std::vector<Parameter>> attach(std::span<const Parameter> leaves,
                                        const Network::IsTrainable& moves);
  /// After the parameters changed: rounds them, and writes the values into the network.
  Status round();
  /// From here on codes of lut codecs stay, and scales, tables and all else move.
  void settle(CodedTensor::Codes where);
  /// Moves the gradients of the network's values to those of the parameters.
  void take_gradients();
  /// Of a tensor of the network, as packed.
  Result<std::vector<std::byte>> codes(const std::string& name) const;
  /// What a training with other codes has different.
  std::string description() const;

 private:
  struct Entry {
    CodedStart start;  ///< without its codes and values, once attached
    Place place;
    at::Tensor inverse_rows;
    at::Tensor leaf;  ///< the network's
    at::Tensor packed;
    std::unique_ptr<CodedTensor> tensor;
  };
  static at::Tensor as_packed(const Entry& entry, const at::Tensor& own);
  static at::Tensor as_own(const Entry& entry);

  TrainCodes what_;
  std::map<std::string, Entry> tensors_;
  uint64_t fingerprint_ = 0;
};

}  // namespace rwkv::press
