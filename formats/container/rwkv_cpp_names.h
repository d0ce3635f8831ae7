// What rwkv.cpp's converter (its python/convert_pytorch_to_ggml.py) changed in a checkpoint, per
// RWKV version, turned into a list that undoes it: BlinkDL's names, shapes and values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/container/adapted_source.h"

namespace rwkv {

/// A tensor as an rwkv.cpp file describes it, outermost dimension first.
struct RwkvCppTensor {
  std::string name;
  DType dtype = DType::F32;
  std::vector<uint64_t> shape;
  uint64_t offset = 0;  ///< of the data
};

/// `tensors` have sizes that were checked. Keeps their order. Messages do not name the file.
Result<std::vector<AdaptedTensor>> undo_rwkv_cpp_conversion(std::span<const RwkvCppTensor> tensors,
                                                            uint64_t n_embed);

}  // namespace rwkv
