// Any bytes as a recipe, as the configuration of a sweep and of a training: refused, or what was
// understood is printed as YAML that means the same.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "compressor/recipe/recipe.h"
#include "compressor/sweep/points.h"
#include "compressor/train/config.h"

using namespace rwkv;

namespace {

constexpr size_t kMostPoints = 16;  // more take time and show nothing new

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

void try_recipe(const std::string& text) {
  const auto recipe = press::parse_recipe(text, "input", {});
  if (!recipe.ok()) {
    return;
  }
  const std::string printed = recipe.value().effective_yaml();
  const auto again = press::parse_recipe(printed, "printed", {});
  // A plan is printed with an empty list of stages, which a recipe with a budget may not have.
  require(recipe.value().budget.has_value() || again.ok());
  require(!again.ok() || again.value().effective_yaml() == printed);
}

void try_sweep(const std::string& text) {
  const auto sweep = press::parse_sweep(text, "/nowhere/sweep.yaml");
  if (!sweep.ok()) {
    return;
  }
  size_t n_points = 1;
  for (const press::SweepAxis& axis : sweep.value().axes) {
    require(!axis.values.empty());
    n_points *= std::min(axis.values.size(), kMostPoints);
    if (n_points > kMostPoints) {
      return;
    }
  }
  const auto plan = press::plan_sweep(sweep.value());
  if (!plan.ok()) {
    return;
  }
  for (const press::SweepPoint& point : plan.value().points) {
    require(press::parse_recipe(point.recipe, "point", {}).ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try_recipe(text);
  try_sweep(text);
  (void)press::parse_train_config(text, "input", {}).ok();
  return 0;
}
