// What a sweep may vary of the device that a file is for, besides the recipe: axes device.KEY.
#pragma once

#include <string>

#include "compressor/evaluate/footprint.h"
#include "compressor/options/settings.h"

namespace rwkv::press {

/// The owner of the settings, in names of axes.
inline constexpr const char* kSweepDevice = "device";

/// 0: not given. Without any, a model is held as the sweep's evaluate.memory says.
struct SweepDevice {
  uint64_t memory_limit = 0;  ///< bytes for everything but the program
  uint64_t weight_bytes = 0;  ///< of all pieces that are streamed: files with several widths
  uint64_t read_speed = 0;    ///< bytes per second of the storage, at most

  bool is_given() const { return memory_limit > 0 || weight_bytes > 0 || read_speed > 0; }
  HeldAs held_as(const std::string& mode) const {
    return {mode, memory_limit, weight_bytes, read_speed};
  }
};

Settings device_settings(SweepDevice& device);
/// One line of YAML with what is given; empty if nothing is.
std::string device_yaml(SweepDevice device);
/// The reverse; `origin` names it in messages.
Result<SweepDevice> read_device(const std::string& yaml, const std::string& origin);

}  // namespace rwkv::press
