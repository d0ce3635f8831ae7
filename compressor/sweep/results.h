// results.json and results.csv of a sweep, assembled from its folder, and the table printed at the
// end.
#pragma once

#include <string>

#include "compressor/sweep/folder.h"

namespace rwkv::press {

/// The results of all points that the sweep's manifest names, as docs/sweeps.md describes them.
/// Points without a result are "failed" or "missing".
Result<Json> collect_results(const SweepFolder& folder);

/// One row per point. Columns with timings come last, since only they differ between runs.
std::string results_to_csv(const Json& results);

/// Writes both files and the page, each completely or not at all.
Status write_results(const SweepFolder& folder, const Json& results);

/// For stdout: point, bytes, speed, metrics; failures below.
std::string results_table(const Json& results);

/// Median, least and greatest of `values`, of which there is at least one.
Json speed_to_json(std::vector<double> values);

}  // namespace rwkv::press
