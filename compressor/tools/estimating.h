// The estimate that convert, plan, train and sweep print before they begin, and its options.
#pragma once

#include <cxxopts.hpp>
#include <optional>
#include <string>

#include "compressor/calibrate/calibration.h"
#include "compressor/estimate/estimate.h"

namespace rwkv::press {

/// Declares --max-memory and --ignore-estimate.
void declare_estimate_options(cxxopts::Options& options);
/// What there is for an output, with --max-memory applied. Usage for a bad value.
Result<Available> available_from(const cxxopts::ParseResult& arguments, const std::string& output);
/// check_fits(), unless --ignore-estimate is given.
Status refuse_unfit(const cxxopts::ParseResult& arguments, const WorkEstimate& estimate,
                    const Available& available);
/// Measures and prints on stderr unless `quiet`; then refuse_unfit(). The machine, if it was
/// measured.
Result<std::optional<Machine>> tell_estimate(const cxxopts::ParseResult& arguments,
                                             const WorkEstimate& estimate,
                                             const std::string& output, bool quiet);
/// What a loaded calibration has.
LearnsFrom learns_from(const std::optional<Calibration>& calibration);

}  // namespace rwkv::press
