// What a sweep may vary of the device that a file is for, besides the recipe: axes device.KEY.
#pragma once

#include <string>

#include "compressor/evaluate/footprint.h"
#include "compressor/options/settings.h"

namespace rwkv::press {

/// The owner of the settings, in names of axes.
inline constexpr const char* kSweepDevice = "device";

/// All of it but the mode, which is the sweep's evaluate.memory.
Settings device_settings(HeldAs& device);
/// One line of YAML with what is given; empty if nothing is.
std::string device_yaml(HeldAs device);
/// The reverse, with this mode; `origin` names the YAML in messages.
Result<HeldAs> read_device(const std::string& yaml, const std::string& mode,
                           const std::string& origin);

}  // namespace rwkv::press
