#include "compressor/sweep/results.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "compressor/report/report.h"
#include "compressor/sweep/metrics.h"
#include "compressor/sweep/received.h"
#include "formats/base/file.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kMaxRecipeBytes = uint64_t{1} << 20;

// A field of a JSON object as text; empty if it is missing.
std::string text_of(const Json& object, const std::string& key) {
  if (!object.contains(key) || object[key].is_null()) {
    return {};
  }
  const Json& value = object[key];
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// Spreadsheets run a field that begins so, quoted or not. Numbers may have a sign.
bool is_formula(const std::string& text) {
  if (text.empty() || std::string_view("=+-@\t").find(text[0]) == std::string_view::npos) {
    return false;
  }
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return *end != '\0';
}

// RFC 4180: quotes around fields with commas, quotes or line ends; quotes are doubled. A name that
// a spreadsheet would run gets an apostrophe, which makes it a text there.
std::string csv_field(const std::string& field) {
  const std::string text = is_formula(field) ? "'" + field : field;
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted.append(c == '"' ? 2 : 1, c);
  }
  return quoted + "\"";
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (size_t i = 0; i < fields.size(); ++i) {
    line += i == 0 ? "" : ",";
    line += csv_field(fields[i]);
  }
  return line + "\n";
}

Status add_measured(const PointFolder& folder, Json& point) {
  RWKV_ASSIGN(const Json result, read_result(folder));
  point["status"] = "done";
  for (const char* key : {"file_bytes", "resident_bytes", "weight_bytes", "memory", "xxh64"}) {
    if (result.contains(key)) {
      point[key] = result[key];
    }
  }
  if (exists(folder.speed())) {
    RWKV_ASSIGN(const Json speed, read_speed(folder));
    for (const char* key : {"tokens_per_second", "tokens_per_second_spread"}) {
      if (speed.contains(key)) {
        point[key] = speed[key];
      }
    }
  }
  if (result.contains("metrics")) {
    point["metrics"] = result["metrics"];
  }
  point["seconds"] = result.contains("seconds") ? result["seconds"] : Json(0.0);
  return {};
}

Result<Json> collect_point(const SweepFolder& sweep, const Json& planned) {
  const PointFolder folder = sweep.point(planned.at("id").get<std::string>());
  Json point = {{"id", folder.id()},
                {"label", planned.at("label")},
                {"status", "missing"},
                {"settings", planned.at("settings")}};
  if (exists(folder.recipe())) {  // a point that nobody began has none
    RWKV_ASSIGN(point["recipe"], read_text_file(folder.recipe(), kMaxRecipeBytes));
  }
  if (folder.is_done()) {
    RWKV_TRY(add_measured(folder, point));
  } else if (folder.has_failed()) {
    point["status"] = "failed";
    point["error"] = folder.message();
  }
  return point;
}

std::vector<std::string> metric_names(const Json& results) {
  std::vector<std::string> names;
  for (const Json& metric : results["metrics"]) {
    names.push_back(metric["name"].get<std::string>());
  }
  return names;
}

Json field_of_metric(const Json& point, const std::string& metric, const char* field) {
  if (!point.contains("metrics") || !point["metrics"].contains(metric) ||
      !point["metrics"][metric].contains(field)) {
    return {};
  }
  return point["metrics"][metric][field];
}

std::string number_text(const Json& value) {
  return value.is_null() ? std::string() : value.dump();
}

}  // namespace

Result<Json> collect_results(const SweepFolder& folder) {
  RWKV_ASSIGN(const Json manifest, read_manifest(folder));
  try {
    Json points = Json::array();
    for (const Json& planned : manifest.at("points")) {
      RWKV_ASSIGN(Json point, collect_point(folder, planned));
      points.push_back(std::move(point));
    }
    Json results = {{"format", "rwkv-press-sweep"},     {"version", 1},
                    {"title", manifest.at("title")},    {"model", manifest.at("model")},
                    {"axes", manifest.at("axes")},      {"metrics", metric_list(points)},
                    {"machine", manifest.at("machine")}};
    results["points"] = std::move(points);
    results["ablation"] = manifest.at("ablation");
    results["baseline"] = manifest.at("baseline");
    return results;
  } catch (const Json::exception& error) {
    return bad_input("{}: is damaged: {}", folder.manifest(), error.what());
  }
}

std::string results_to_csv(const Json& results) {
  const std::vector<std::string> metrics = metric_names(results);
  std::vector<std::string> head = {"id", "label", "status", "error"};
  for (const Json& axis : results["axes"]) {
    head.push_back(axis["name"].get<std::string>());
  }
  const std::vector<std::string> sizes = {"file_bytes", "resident_bytes", "weight_bytes", "memory",
                                          "xxh64"};
  head.insert(head.end(), sizes.begin(), sizes.end());
  for (const std::string& metric : metrics) {
    head.insert(head.end(), {metric, metric + "_standard_error", metric + "_n"});
  }
  head.insert(head.end(),
              {"tokens_per_second", "tokens_per_second_low", "tokens_per_second_high", "seconds"});
  std::string csv = csv_line(head);
  for (const Json& point : results["points"]) {
    std::vector<std::string> row;
    for (const char* key : {"id", "label", "status", "error"}) {
      row.push_back(text_of(point, key));
    }
    for (const Json& axis : results["axes"]) {
      row.push_back(text_of(point["settings"], axis["name"].get<std::string>()));
    }
    for (const std::string& key : sizes) {
      row.push_back(text_of(point, key));
    }
    for (const std::string& metric : metrics) {
      for (const char* field : {"value", "standard_error", "n"}) {
        row.push_back(number_text(field_of_metric(point, metric, field)));
      }
    }
    row.push_back(text_of(point, "tokens_per_second"));
    const bool has_spread = point.contains("tokens_per_second_spread");
    for (size_t i = 0; i < 2; ++i) {
      row.push_back(has_spread ? number_text(point["tokens_per_second_spread"][i]) : "");
    }
    row.push_back(text_of(point, "seconds"));
    csv += csv_line(row);
  }
  return csv;
}

Status write_results(const SweepFolder& folder, const Json& results) {
  RWKV_TRY(write_json(folder.results_json(), results));
  RWKV_TRY(write_whole(folder.results_csv(), results_to_csv(results)));
  return write_report(results, folder.report());
}

std::string results_table(const Json& results) {
  const std::vector<std::string> metrics = metric_names(results);
  size_t width = std::string("point").size();
  for (const Json& point : results["points"]) {
    width = std::max(width, printable(text_of(point, "label")).size());
  }
  std::string table =
      fmt::format("{:<{}} {:>12} {:>12} {:>10}", "point", width, "resident", "file", "tokens/s");
  for (const std::string& metric : metrics) {
    table += fmt::format(" {:>{}}", printable(metric), std::max<size_t>(metric.size(), 10));
  }
  table += "\n";
  std::string errors;
  for (const Json& point : results["points"]) {
    table +=
        fmt::format("{:<{}} {:>12} {:>12} {:>10}", printable(text_of(point, "label")), width,
                    text_of(point, "resident_bytes"), text_of(point, "file_bytes"),
                    point.contains("tokens_per_second") && point["tokens_per_second"].is_number()
                        ? fmt::format("{:.1f}", point["tokens_per_second"].get<double>())
                        : "");
    for (const std::string& metric : metrics) {
      const Json value = field_of_metric(point, metric, "value");
      table += fmt::format(" {:>{}}",
                           value.is_number() ? fmt::format("{:.4f}", value.get<double>()) : "-",
                           std::max<size_t>(metric.size(), 10));
    }
    table += "\n";
    if (point["status"] != "done") {
      errors +=
          fmt::format("{}: {}{}\n", printable(text_of(point, "label")), text_of(point, "status"),
                      point.contains("error") ? ": " + printable(text_of(point, "error")) : "");
    }
  }
  return table + (errors.empty() ? "" : "\n") + errors;
}

Json speed_to_json(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {{"tokens_per_second", values[values.size() / 2]},
          {"tokens_per_second_spread", {values.front(), values.back()}},
          {"rounds", values.size()}};
}

}  // namespace rwkv::press
