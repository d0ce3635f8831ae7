// results.json and results.csv of a sweep, put together from its folder; and the table that a
// person sees at the end.
#pragma once

#include <string>

#include "compressor/sweep/folder.h"

namespace rwkv::press {

/// The results of all points that the sweep's manifest names, as docs/sweeps.md describes them.
/// Points without a result are "failed" or "missing".
Result<Json> collect_results(const SweepFolder& folder);

/// One row per point; columns of timings stand last, since they alone differ between runs.
std::string results_to_csv(const Json& results);

/// Both files and the page, each whole or not at all.
Status write_results(const SweepFolder& folder, const Json& results);

/// For stdout: point, bytes, speed, metrics; failures below.
std::string results_table(const Json& results);

/// Median, least and most of `values`, at least one.
Json speed_to_json(std::vector<double> values);

}  // namespace rwkv::press
