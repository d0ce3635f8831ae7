// A device of LibTorch whose tensors lie in ordinary memory, in the place that LibTorch keeps for
// devices of others. What must run on a GPU runs on it too: a tensor that was left on the CPU, or
// memory that is touched past LibTorch, is an error as it would be there.
#pragma once

#include <c10/core/Device.h>

namespace rwkv::test {

inline const at::Device kPretendDevice(c10::DeviceType::PrivateUse1, 0);

}  // namespace rwkv::test
