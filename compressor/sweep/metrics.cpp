#include "compressor/sweep/metrics.h"

#include <array>
#include <filesystem>
#include <vector>

namespace rwkv::press {
namespace {

struct Metric {
  const char* list;      ///< in the measurement's JSON
  const char* part;      ///< of a file there; empty: the file itself
  const char* measured;  ///< key there
  const char* n;         ///< key of the number of items averaged
  const char* name;
  const char* label;
  const char* better;
};

constexpr std::array<Metric, 6> kMetrics = {{
    {"texts", "", "bits_per_byte", "tokens", "bits_per_byte", "bits per byte", "lower"},
    {"texts", "", "kl", "tokens", "kl", "KL to the dense model, nats per token", "lower"},
    {"texts", "", "top1_agreement", "tokens", "top1_agreement",
     "share of tokens with the dense model's first choice", "higher"},
    {"cloze", "", "accuracy", "documents", "cloze_accuracy", "last words right", "higher"},
    {"choices", "acc", "accuracy", "documents", "choices_accuracy", "choices right", "higher"},
    {"choices", "acc_bytes", "accuracy", "documents", "choices_accuracy_per_byte",
     "choices right, per byte", "higher"},
}};

bool is_number(const Json& object, const std::string& key) {
  return object.contains(key) && object[key].is_number();
}

// "bits_per_byte.stories" of "bits_per_byte".
std::string base_of(const std::string& name) {
  return name.substr(0, name.find('.'));
}

}  // namespace

Json metrics_of(const Json& measurement) {
  Json metrics = Json::object();
  for (const Metric& metric : kMetrics) {
    if (!measurement.contains(metric.list)) {
      continue;
    }
    const Json& files = measurement[metric.list];
    for (const Json& file : files) {
      const Json& part = file.contains(metric.part) ? file[metric.part] : file;
      if (!is_number(part, metric.measured)) {
        continue;
      }
      std::string name = metric.name;
      if (files.size() > 1) {
        name += ".";
        name += std::filesystem::path(file["file"].get<std::string>()).stem().string();
      }
      Json& entry = metrics[name];
      entry["value"] = part[metric.measured];
      const std::string error = std::string(metric.measured) + "_standard_error";
      if (is_number(part, error)) {
        entry["standard_error"] = part[error];
      }
      if (is_number(part, metric.n)) {
        entry["n"] = part[metric.n];
      }
    }
  }
  return metrics;
}

Json metric_list(const Json& points) {
  Json list = Json::array();
  for (const Metric& metric : kMetrics) {
    std::vector<std::string> seen;
    for (const Json& point : points) {
      if (!point.contains("metrics")) {
        continue;
      }
      for (const auto& [name, value] : point["metrics"].items()) {
        if (base_of(name) == metric.name &&
            std::find(seen.begin(), seen.end(), name) == seen.end()) {
          seen.push_back(name);
          const std::string file = name.substr(base_of(name).size());
          list.push_back(
              {{"name", name},
               {"label", file.empty() ? std::string(metric.label)
                                      : fmt::format("{} ({})", metric.label, file.substr(1))},
               {"better", metric.better}});
        }
      }
    }
  }
  return list;
}

}  // namespace rwkv::press
