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

std::string megabytes(uint64_t bytes) {
  return fmt::format("{:.{}f} MB", static_cast<double>(bytes) * 1e-6, bytes < 10'000'000 ? 2 : 1);
}

// "11.2 MB of 41.0 MB (1/3.66)"; without a share if there is nothing to compare with.
std::string share_of(uint64_t packed, uint64_t fp16) {
  const std::string text = fmt::format("{} of {}", megabytes(packed), megabytes(fp16));
  return packed == 0 || fp16 == 0
             ? text
             : fmt::format("{} (1/{:.2f})", text,
                           static_cast<double>(fp16) / static_cast<double>(packed));
}

}  // namespace

std::string compare_devices(const DeviceReport& packed, uint64_t packed_file,
                            const DeviceReport& fp16, uint64_t fp16_file) {
  std::string text = fmt::format("against fp16: file {}\n", share_of(packed_file, fp16_file));
  for (size_t i = 0; i < packed.json.size() && i < fp16.json.size(); ++i) {
    const auto& ours = packed.json[i];
    const auto& theirs = fp16.json[i];
    text +=
        fmt::format("  {:<10} memory {}", ours["mode"].get<std::string>(),
                    share_of(ours["resident"].get<uint64_t>(), theirs["resident"].get<uint64_t>()));
    const auto read = ours["read_per_token"].get<uint64_t>();
    const auto read_in_fp16 = theirs["read_per_token"].get<uint64_t>();
    text += read == 0 && read_in_fp16 == 0
                ? "\n"
                : fmt::format(", read per token {}\n", share_of(read, read_in_fp16));
  }
  return text;
}

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
