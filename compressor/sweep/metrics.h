// The figures of quality that a sweep compares, taken from what was measured of a point.
#pragma once

#include <string>

#include "compressor/evaluate/measure.h"
#include "compressor/sweep/files.h"

namespace rwkv::press {

/// {"bits_per_byte": {"value", "standard_error", "n"}, ...}; names have the file's added
/// ("bits_per_byte.stories") where there are several of a kind. What is not finite is left out.
Json metrics_of(const Json& measurement);

/// {"name", "label", "better"} of each metric that some of `points` (with "metrics") has, in the
/// order in which they are measured.
Json metric_list(const Json& points);

}  // namespace rwkv::press
