// How far the values of a packed file are from those of the checkpoint that it was made from,
// tensor by tensor, without text.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compressor/stages/plan.h"
#include "formats/base/status.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

struct PackedError {
  std::string name;  ///< of the tensor in the checkpoint
  /// Sum of squared differences over the sum of squares; 0 for equal tensors of zeros. A factor
  /// pair counts as the matrix that it stands for, and an embedding that is packed with ln0 as its
  /// normed rows.
  double error = 0;
};

/// Of all tensors that both have, and of matrices that became pairs, in the order of `plan`.
/// `packed` is the file as a checkpoint, which brings rows of a clustered head into their order and
/// has values in the checkpoint's type. One tensor of both, or one pair, is in memory at a time.
Result<std::vector<PackedError>> packed_errors(const TensorSource& packed, const PackPlan& plan,
                                               const TensorSource& original);

}  // namespace rwkv::press
