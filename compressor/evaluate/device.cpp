#include "compressor/evaluate/device.h"

#include "compressor/evaluate/planned_account.h"
#include "runtime/model/device_needs.h"

namespace rwkv::press {
namespace {

DeviceReport report_of(const std::vector<edge::ModeNeeds>& needs) {
  DeviceReport report{edge::describe(needs, "  "), nlohmann::ordered_json::array()};
  for (const edge::ModeNeeds& mode : needs) {
    report.json.push_back({{"mode", edge::mode_traits(mode.mode).name},
                           {"resident", mode.resident},
                           {"read_per_token", mode.read.bytes},
                           {"is_bound", mode.read.is_bound},
                           {"made_for", mode.is_made_for}});
  }
  return report;
}

}  // namespace

Result<DeviceReport> device_report(const std::string& path) {
  RWKV_ASSIGN(const std::vector<edge::ModeNeeds> needs, edge::device_needs(path));
  return report_of(needs);
}

Result<DeviceReport> device_report(const PackPlan& plan, uint64_t tokenizer_bytes) {
  RWKV_ASSIGN(const std::vector<edge::ModeNeeds> needs,
              edge::device_needs(planned_file(plan), tokenizer_bytes));
  return report_of(needs);
}

}  // namespace rwkv::press
