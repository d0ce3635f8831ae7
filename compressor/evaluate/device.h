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

/// Lines that set a packed file against the same model in fp16: bytes of the file, and by memory
/// mode bytes in memory and read per token. Both reports have the same modes.
std::string compare_devices(const DeviceReport& packed, uint64_t packed_file,
                            const DeviceReport& fp16, uint64_t fp16_file);

}  // namespace rwkv::press
