// The figures of quality that a sweep compares, taken from the measurements of a point.
#pragma once

#include <string>

#include "compressor/evaluate/measure.h"
#include "compressor/sweep/files.h"

namespace rwkv::press {

/// {"bits_per_byte": {"value", "standard_error", "n"}, ...}; if there are
/// several files of a kind, names contain the file ("bits_per_byte.stories"). Values that are not
/// finite are omitted.
Json metrics_of(const Json& measurement);

/// {"name", "label", "better"} of each metric that at least one of `points` (with "metrics") has,
/// in the order of measurement.
Json metric_list(const Json& points);

}  // namespace rwkv::press
