#include "compressor/recipe/budget.h"

#include <array>

namespace rwkv::press {
namespace {

constexpr std::array<const char*, 4> kMemory = {"any", "loaded", "sparse", "streamed"};
constexpr std::array<const char*, 3> kLosses = {"auto", "measured", "estimated"};
constexpr std::array<const char*, 3> kChecks = {"auto", "packed", "none"};

// One of `codecs` by the name that codec_traits() has.
Status read_codec(std::string& name) {
  Codec codec{};
  RWKV_TRY(setting::codec("codecs", codec, "").read(YAML::Node(name), "budget.codecs"));
  if (codec == Codec::Mm8) {
    return usage_error("budget.codecs: mm8 is a baseline to compare with; plans cannot choose it");
  }
  name = codec_traits(codec).name;
  return {};
}

}  // namespace

Settings budget_settings(Budget& budget) {
  using namespace setting;
  constexpr uint64_t kMostRows = 1 << 24;
  constexpr uint64_t kMostSamples = 1 << 16;
  return {"budget",
          {
              bytes("resident", budget.resident, "bytes that the model may take, as 200MB")
                  .shown_if(budget.resident > 0),
              bytes("size", budget.size, "bytes that the packed file may have, as 150MB")
                  .shown_if(budget.size > 0),
              choice("memory", budget.memory, kMemory, "how the runtime will hold the model"),
              count("embedding_cache", budget.embedding_cache, 1, kMostRows,
                    "rows of the embedding kept in memory in sparse mode"),
              real("min_speed", budget.min_speed, 0, 1e9, "tokens per second; 0: any"),
              bytes("read_speed", budget.read_speed,
                    "per second, of the device's storage: weights may be read for every token "
                    "while it is computed, as far as min_speed leaves time")
                  .shown_if(budget.read_speed > 0),
              count("samples", budget.samples, 1, kMostSamples,
                    "stretches of text on which losses are measured"),
              count("rounds", budget.rounds, 0, 100, "of improving the choice as a whole, at most"),
              texts("codecs", budget.codecs, "of matrices to choose from, besides f16")
                  .shown_if(!budget.codecs.empty()),
              flag("pairs", budget.pairs,
                   "projections may become factor pairs, which take most of the time to measure"),
              choice("losses", budget.losses, kLosses,
                     "of matrices: measured one by one, or estimated, which scales; auto: measured "
                     "for models of up to 30 million parameters")
                  .shown_if(budget.losses != kLosses[0]),
              choice("check", budget.check, kChecks,
                     "of the result: packed, opened and measured, which takes a conversion; auto: "
                     "for models of up to 250 million parameters")
                  .shown_if(budget.check != kChecks[0]),
          }};
}

Result<Budget> read_budget(const YAML::Node& node) {
  Budget budget;
  RWKV_TRY(budget_settings(budget).read(node));
  if (!budget.has_limit()) {
    return usage_error(
        "budget.resident is missing; expected the bytes that the model may take in memory, such as "
        "200MB, or in budget.size those of its file");
  }
  const bool streams = budget.read_speed > 0 || budget.memory == "streamed";
  if (streams && (budget.read_speed == 0 || budget.min_speed == 0 || budget.resident == 0)) {
    return usage_error(
        "budget: streaming needs resident (bytes in memory), min_speed (tokens per second) and "
        "read_speed (bytes per second of the storage); found {} of them",
        (budget.read_speed > 0 ? 1 : 0) + (budget.min_speed > 0 ? 1 : 0) +
            (budget.resident > 0 ? 1 : 0));
  }
  for (std::string& name : budget.codecs) {
    RWKV_TRY(read_codec(name));
  }
  return budget;
}

void emit_budget(YAML::Emitter& out, Budget budget) {
  budget_settings(budget).emit(out, /*flow=*/true);
}

}  // namespace rwkv::press
