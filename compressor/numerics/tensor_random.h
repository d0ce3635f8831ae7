// LibTorch's own generator, for tensors of random numbers.
#pragma once

#include <ATen/CPUGeneratorImpl.h>

#include <cstdint>

namespace rwkv::press {

/// Independent of LibTorch's global one, which any call may advance.
inline at::Generator tensor_random(uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

}  // namespace rwkv::press
