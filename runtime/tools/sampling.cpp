// How tokens are chosen, as options of the commands that generate text.
#include <limits>
#include <random>

#include "formats/cli/command.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

constexpr double kMaxPenalty = 100.0;

/// A seed that differs from run to run, short enough to be typed again.
uint64_t random_seed() {
  std::random_device device;
  return device() & std::numeric_limits<uint32_t>::max();
}

}  // namespace

void declare_sampling_options(cxxopts::Options& options, const SamplerOptions& defaults) {
  const auto with_default = [](auto value) {
    return cxxopts::value<std::string>()->default_value(fmt::format("{}", value));
  };
  options.add_options()("temp,temperature", "Temperature; 0 always takes the most likely token",
                        with_default(defaults.temperature), "N")(
      "top-p",
      "Keep the most likely tokens that add up to this probability; 1 keeps all, 0 only the most "
      "likely one",
      with_default(defaults.top_p),
      "N")("top-k", "Keep only the K most likely tokens; 0 keeps all", with_default(defaults.top_k),
           "K")("presence,presence-penalty", "Penalty for tokens that have occurred",
                with_default(defaults.presence_penalty),
                "N")("frequency,frequency-penalty", "Penalty for each occurrence",
                     with_default(defaults.frequency_penalty), "N")(
      "penalty-decay", "Factor by which counts of occurrences shrink at each token",
      with_default(defaults.penalty_decay), "N")("s,seed",
                                                 "Random seed; the same seed gives the same text. "
                                                 "Without it, or with -1, each run has another "
                                                 "one, which is printed",
                                                 cxxopts::value<std::string>(), "N");
}

Result<SamplerOptions> sampler_from(const cxxopts::ParseResult& arguments) {
  SamplerOptions sampler;
  struct Real {
    const char* name;
    float& to;
    double low, high;
  };
  const Real reals[] = {{"temp", sampler.temperature, 0.0, kMaxPenalty},
                        {"top-p", sampler.top_p, 0.0, 1.0},
                        {"presence", sampler.presence_penalty, -kMaxPenalty, kMaxPenalty},
                        {"frequency", sampler.frequency_penalty, -kMaxPenalty, kMaxPenalty},
                        {"penalty-decay", sampler.penalty_decay, 0.0, 1.0}};
  for (const Real& option : reals) {
    RWKV_ASSIGN(const double value, cli::real(arguments, option.name, option.low, option.high));
    option.to = static_cast<float>(value);
  }
  RWKV_ASSIGN(const int64_t top_k, cli::integer(arguments, "top-k", 0, INT32_MAX));
  sampler.top_k = static_cast<int>(top_k);
  // No token adds up to a probability of 0; published settings mean the most likely one by it.
  if (sampler.top_p == 0.0f) {
    sampler.top_p = 1.0f;
    sampler.temperature = 0.0f;
  }
  int64_t seed = -1;
  if (arguments.count("seed") > 0) {
    RWKV_ASSIGN(seed, cli::integer(arguments, "seed", -1, INT64_MAX));
  }
  sampler.seed = seed < 0 ? random_seed() : static_cast<uint64_t>(seed);
  return sampler;
}

std::string seed_note(const SamplerOptions& sampler) {
  const bool is_greedy = sampler.temperature == 0.0f || sampler.top_k == 1;
  return is_greedy ? "" : fmt::format("seed {}", sampler.seed);
}

}  // namespace rwkv::edge
