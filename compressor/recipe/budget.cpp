#include "compressor/recipe/budget.h"

#include <array>

namespace rwkv::press {
namespace {

constexpr std::array<const char*, 3> kMemory = {"any", "loaded", "sparse"};

}  // namespace

Settings budget_settings(Budget& budget) {
  using namespace setting;
  constexpr uint64_t kMostRows = 1 << 24;
  constexpr uint64_t kMostSamples = 1 << 16;
  return {"budget",
          {
              bytes("resident", budget.resident, "bytes that the model may take, as 200MB"),
              choice("memory", budget.memory, kMemory, "how the runtime will hold the model"),
              count("embedding_cache", budget.embedding_cache, 1, kMostRows,
                    "rows of the embedding kept in memory in sparse mode"),
              real("min_speed", budget.min_speed, 0, 1e9, "tokens per second; 0: any"),
              count("samples", budget.samples, 1, kMostSamples,
                    "stretches of text on which losses are measured"),
              count("rounds", budget.rounds, 0, 100, "of improving the choice as a whole, at most"),
          }};
}

Result<Budget> read_budget(const YAML::Node& node) {
  Budget budget;
  RWKV_TRY(budget_settings(budget).read(node));
  if (budget.resident == 0) {
    return usage_error(
        "budget.resident is missing; expected the bytes that the model may take, such as 200MB");
  }
  return budget;
}

void emit_budget(YAML::Emitter& out, Budget budget) {
  budget_settings(budget).emit(out, /*flow=*/true);
}

}  // namespace rwkv::press
