// A measurement as JSON, for --json and for results that are kept. Keys are stable;
// docs/evaluation.md lists them. Numbers that are not finite are null.
#pragma once

#include <nlohmann/json.hpp>

#include "compressor/evaluate/measure.h"

namespace rwkv::press {

nlohmann::ordered_json measurement_to_json(const Measurement& measurement);

}  // namespace rwkv::press
