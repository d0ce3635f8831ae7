// The values of synthetic tensors. Only integer arithmetic and exact float operations, so that a
// seed gives the same bytes everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/arch/tensor_spec.h"

namespace rwkv::press {

struct SynthTensor {
  std::string name;
  Role role = Role::Vector;
  Layout layout = Layout::AsIs;
  std::vector<uint64_t> shape;
  double depth = 0.0;  ///< position of its block: 0 for the first, 1 for the last
};

/// All values of `tensor`, row-major.
std::vector<float> synth_values(const SynthTensor& tensor, uint64_t seed);

}  // namespace rwkv::press
