// The text output of rwkv-press eval.
#pragma once

#include <vector>

#include "compressor/evaluate/measure.h"

namespace rwkv::press {

/// Prints lines and documents that were skipped on stderr: the first few by name, then the number.
void print_skipped(const EvaluationSets& sets);

/// Prints a table for every text and file of questions on stdout, with a row for every model. All
/// measurements are of the same sets; there is at least one.
void print_measurements(const std::vector<Measurement>& measurements);

}  // namespace rwkv::press
