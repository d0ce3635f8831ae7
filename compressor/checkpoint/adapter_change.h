// What the parts of an adapter do to one matrix: the arithmetic of merged_source.h.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// A tensor of one of the files.
struct Place {
  const TensorSource* source = nullptr;
  size_t index = 0;
  const TensorInfo& info() const { return source->tensors()[index]; }
};

/// One change of a matrix W, [out, in]. A pair has two tensors, A and B, the others have one.
struct Change {
  enum class Kind {
    AddPair,        ///< W + scale B A
    SubtractPair,   ///< W - scale B A
    AddRows,        ///< W[o][i] + D[i mod rank][o]
    MultiplyBlocks  ///< W_ab + W_ab M_b + M_b
  } kind = Kind::AddPair;
  Place a, b;
  double scale = 1.0;
  bool is_transposed = false;  ///< of a pair: B A is for the matrix the other way round
};

/// The values of a tensor of floats.
Result<std::vector<float>> values_of(const Place& place);

/// Changes `w`, rows of `n_in`. The caller has checked that the shapes fit. Fails if a file does.
Status apply(const Change& change, uint64_t n_in, std::vector<double>& w);

}  // namespace rwkv::press
