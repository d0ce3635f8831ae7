// Planning for a budget, for `plan --fit` and for `convert` with a recipe that has a budget.
#pragma once

#include <cxxopts.hpp>
#include <optional>
#include <string>

#include "compressor/planner/fit.h"

namespace rwkv::press {

/// Plans `recipe`, which has a budget, for the checkpoint at `path`. Of the arguments: --vocab,
/// --calibration, --text, --curves, --quiet.
Result<FitReport> fit_from(const cxxopts::ParseResult& arguments, const Recipe& recipe,
                           const std::string& path);

/// Declares --fit, --size, --min-speed and what else only planning has.
void declare_fit_options(cxxopts::Options& options);
/// The recipe that --fit, --size and --min-speed make, or the one that --recipe names and that has
/// a budget; nothing if there is neither: then there is nothing to plan.
Result<std::optional<Recipe>> budget_recipe(const cxxopts::ParseResult& arguments);
/// plan --fit: prints the table or JSON and writes -o.
Status run_plan_fit(const cxxopts::ParseResult& arguments, const Recipe& recipe);

}  // namespace rwkv::press
