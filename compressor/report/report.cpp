#include "compressor/report/report.h"

#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "compressor/report/page.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "rwkv-press-sweep";
constexpr int kVersion = 1;

bool has_string(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string();
}

Status check(const Json& results) {
  if (!results.is_object() || !has_string(results, "format") || results["format"] != kFormat) {
    return bad_input("the results are not those of a sweep: expected \"format\" to be \"{}\"",
                     kFormat);
  }
  const auto version = results.find("version");
  if (version == results.end() || !version->is_number_integer() || *version != kVersion) {
    return bad_input("the results have version {}, but this program shows version {}",
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

// JSON that is safe inside a script element: without < > &, which occur only in strings.
std::string to_embedded_json(const Json& results) {
  const std::string json = results.dump(-1, ' ', true, Json::error_handler_t::replace);
  std::string out;
  out.reserve(json.size() + json.size() / 16);
  for (const char c : json) {
    const bool is_markup = c == '<' || c == '>' || c == '&';
    if (is_markup) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

Result<std::string> render_report(const Json& results) {
  RWKV_TRY(check(results));
  std::string page(report_page());
  const size_t at = page.find(kResultsMark);
  if (at == std::string::npos) {
    return failed("the compiled-in page has no {}; build it again", kResultsMark);
  }
  return page.replace(at, kResultsMark.size(), to_embedded_json(results));
}

Status write_report(const Json& results, const std::string& path) {
  RWKV_ASSIGN(const std::string page, render_report(results));
  RWKV_ASSIGN(const auto out, OutputFile::create(path, OutputFile::Existing::Replace));
  RWKV_TRY(out->write(std::as_bytes(std::span(page.data(), page.size()))));
  return out->commit();
}

}  // namespace rwkv::press
