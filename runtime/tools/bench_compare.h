// Several models in turn in one process, so that whatever else the machine does hits all of them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "runtime/bench/measure.h"
#include "runtime/memory/options.h"

namespace rwkv::edge {

/// The models of `paths`, all of them open at once, for each number of threads: every run decodes
/// and takes a prompt with one after another, and reads memory alone before each. The report has
/// for each its speed and, run by run, how many times as fast the first one was. Fails if a model
/// cannot be opened or run.
Result<nlohmann::ordered_json> bench_in_turn(const std::vector<std::string>& paths,
                                             const MemoryOptions& memory,
                                             const std::vector<unsigned>& threads,
                                             const BenchOptions& options);
/// That report as a table.
void print_in_turn(const nlohmann::ordered_json& report);

}  // namespace rwkv::edge
