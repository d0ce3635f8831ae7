// Measures several models in turn in one process, so that other load on the machine affects all of
// them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "runtime/bench/measure.h"
#include "runtime/memory/options.h"

namespace rwkv::edge {

/// Measures the models of `paths`, all open at once, for each number of threads. Every run decodes
/// and reads a prompt with one model after another, and measures the memory bandwidth before each.
/// The report has the speed of each and, run by run, how many times as fast the first one was.
/// Fails if a model cannot be opened or run.
Result<nlohmann::ordered_json> bench_in_turn(const std::vector<std::string>& paths,
                                             const MemoryOptions& memory,
                                             const std::vector<unsigned>& threads,
                                             const BenchOptions& options);
/// That report as a table.
void print_in_turn(const nlohmann::ordered_json& report);

}  // namespace rwkv::edge
