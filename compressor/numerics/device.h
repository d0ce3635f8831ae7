// The device that a training or a calibration computes on: --device.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

/// "cpu", "cuda" (the first GPU) or "cuda:1". Usage for other names, for a LibTorch without CUDA,
/// and for a GPU that this machine does not have.
Result<at::Device> compute_device(const std::string& name);

}  // namespace rwkv::press
