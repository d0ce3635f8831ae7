// A plan as JSON, and back: for conversions that go on later.
#pragma once

#include <nlohmann/json.hpp>

#include "compressor/stages/plan.h"

namespace rwkv::press {

nlohmann::json plan_to_json(const PackPlan& plan);
/// BadInput for anything that no plan can have.
Result<PackPlan> plan_from_json(const nlohmann::json& json);

}  // namespace rwkv::press
