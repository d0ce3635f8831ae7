// What a device will take of a packed model, for people: bytes in memory by memory mode, and bytes
// read per token. The runtime's own figures, for a file and for a plan of one.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "compressor/stages/plan.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct DeviceReport {
  std::string text;             ///< a line for each mode, indented
  nlohmann::ordered_json json;  ///< a list: mode, resident, read_per_token, is_bound, made_for
};

/// Of the packed file at `path`.
Result<DeviceReport> device_report(const std::string& path);
/// Of the file that `plan` describes, with a tokenizer that takes `tokenizer_bytes`.
Result<DeviceReport> device_report(const PackPlan& plan, uint64_t tokenizer_bytes);

}  // namespace rwkv::press
