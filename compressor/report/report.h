// The page of a sweep: report.html from results.json, one file that asks the network for nothing.
// Measuring and the results' fields belong to whoever runs the sweep; README.md lists them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

/// The page of `results` ("format": "rwkv-press-sweep", "version": 1), whole: text of the results
/// is escaped, so nothing in it becomes HTML, and bytes that are not UTF-8 become U+FFFD. The same
/// results give the same bytes. BadInput if it is not such an object or a point has no id.
Result<std::string> render_report(const nlohmann::ordered_json& results);

/// The same into the file `path`, which appears whole or not at all and replaces an older one.
Status write_report(const nlohmann::ordered_json& results, const std::string& path);

}  // namespace rwkv::press
