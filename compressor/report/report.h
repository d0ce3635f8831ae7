// The page of a sweep: makes report.html from results.json, one file that needs no network.
// Measuring is done by compressor/sweep; README.md lists the fields of the results.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

/// The complete page of `results` ("format": "rwkv-press-sweep", "version": 1). Text of the results
/// is escaped, so nothing in it becomes HTML, and bytes that are not UTF-8 become U+FFFD. The same
/// results give the same bytes. BadInput if `results` is not such an object or a point has no id.
Result<std::string> render_report(const nlohmann::ordered_json& results);

/// Writes the page to `path`, which appears complete or not at all and replaces an older file.
Status write_report(const nlohmann::ordered_json& results, const std::string& path);

}  // namespace rwkv::press
