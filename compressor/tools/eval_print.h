// What rwkv-press eval says to people.
#pragma once

#include <vector>

#include "compressor/evaluate/measure.h"

namespace rwkv::press {

/// Lines and documents that were skipped, on stderr: the first few by name, then how many.
void print_skipped(const EvaluationSets& sets);

/// A table for every text and file of questions, a row for every model, on stdout. All
/// measurements are of the same sets; there is at least one.
void print_measurements(const std::vector<Measurement>& measurements);

}  // namespace rwkv::press
