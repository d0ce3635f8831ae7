#include "compressor/report/report.h"

#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "formats/base/file.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "rwkv-press-sweep";
constexpr int kVersion = 1;

constexpr std::string_view kBefore =
    "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>RWKV Press</title>\n"
    "<pre id=\"page\"></pre>\n<script type=\"application/json\" id=\"results\">";
constexpr std::string_view kAfter =
    "</script>\n<script>\nconst results = document.getElementById('results').textContent;\n"
    "document.getElementById('page').textContent = JSON.stringify(JSON.parse(results), null, 1);\n"
    "</script>\n</html>\n";

bool has_string(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string();
}

Status check(const Json& results) {
  if (!results.is_object() || !has_string(results, "format") || results["format"] != kFormat) {
    return bad_input("the results are not those of a sweep: \"format\" has to be \"{}\"", kFormat);
  }
  const auto version = results.find("version");
  if (version == results.end() || !version->is_number_integer() || *version != kVersion) {
    return bad_input("the results are of version {}, and this program shows version {}",
                     version == results.end() ? "none" : version->dump(), kVersion);
  }
  const auto points = results.find("points");
  if (points == results.end() || !points->is_array()) {
    return bad_input("the results have no list \"points\"");
  }
  for (size_t i = 0; i < points->size(); ++i) {
    const Json& point = (*points)[i];
    if (!point.is_object() || !has_string(point, "id")) {
      return bad_input("point {} of the results has no \"id\"", i);
    }
  }
  return {};
}

// JSON that may stand inside a script element: none of < > &, which occur in strings alone.
std::string to_embedded_json(const Json& results) {
  const std::string json = results.dump(-1, ' ', true, Json::error_handler_t::replace);
  std::string out;
  out.reserve(json.size() + json.size() / 16);
  for (const char c : json) {
    switch (c) {
      case '<':
        out += "\\u003c";
        break;
      case '>':
        out += "\\u003e";
        break;
      case '&':
        out += "\\u0026";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

Result<std::string> render_report(const Json& results) {
  RWKV_TRY(check(results));
  std::string page(kBefore);
  page += to_embedded_json(results);
  page += kAfter;
  return page;
}

Status write_report(const Json& results, const std::string& path) {
  RWKV_ASSIGN(const std::string page, render_report(results));
  RWKV_ASSIGN(const auto out, OutputFile::create(path, OutputFile::Existing::Replace));
  RWKV_TRY(out->write(std::as_bytes(std::span(page.data(), page.size()))));
  return out->commit();
}

}  // namespace rwkv::press
