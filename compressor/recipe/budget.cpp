#include "compressor/recipe/budget.h"

#include <algorithm>
#include <array>

#include "compressor/options/option_values.h"
#include "formats/base/byte_size.h"
#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

constexpr const char* kName = "budget";
constexpr std::array<std::string_view, 6> kKeys = {"resident",  "memory",  "embedding_cache",
                                                   "min_speed", "samples", "rounds"};
constexpr std::array<const char*, 3> kMemory = {"any", "loaded", "sparse"};

}  // namespace

Result<Budget> read_budget(const YAML::Node& node) {
  if (!node.IsMap()) {
    return usage_error("'budget' wants a map: {{resident: 200MB}}");
  }
  for (const auto& pair : node) {
    const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "";
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) {
      return usage_error("unknown key 'budget.{}'{}", key, suggestion(key, kKeys));
    }
  }
  Budget budget;
  const OptionValues values(node, kName);
  std::string resident;
  RWKV_TRY(values.text("resident", resident));
  if (resident.empty()) {
    return usage_error("budget.resident is missing: the bytes that the model may take, as 200MB");
  }
  auto bytes = parse_bytes(resident);
  RWKV_TRY(bytes.status().in("budget.resident"));
  budget.resident = bytes.value();
  size_t memory = 0;
  RWKV_TRY(values.choice("memory", kMemory, memory));
  budget.memory = kMemory[memory];
  RWKV_TRY(values.count("embedding_cache", 1, 1 << 24, budget.embedding_cache));
  RWKV_TRY(values.real("min_speed", 0, 1e9, budget.min_speed));
  RWKV_TRY(values.count("samples", 1, 1 << 16, budget.samples));
  RWKV_TRY(values.count("rounds", 0, 100, budget.rounds));
  return budget;
}

void emit_budget(YAML::Emitter& out, const Budget& budget) {
  out << YAML::Flow << YAML::BeginMap;
  out << YAML::Key << "resident" << YAML::Value << budget.resident;
  out << YAML::Key << "memory" << YAML::Value << budget.memory;
  out << YAML::Key << "embedding_cache" << YAML::Value << budget.embedding_cache;
  out << YAML::Key << "min_speed" << YAML::Value << budget.min_speed;
  out << YAML::Key << "samples" << YAML::Value << budget.samples;
  out << YAML::Key << "rounds" << YAML::Value << budget.rounds << YAML::EndMap;
}

}  // namespace rwkv::press
