// --memory, --memory-limit and the sizes of caches; the account as text and as JSON.
#include <array>

#include "formats/base/nearest.h"
#include "formats/cli/command.h"
#include "formats/cli/print.h"
#include "runtime/model/device_needs.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

// Code and stacks that become resident only when the model runs; measured on x86-64.
constexpr uint64_t kProgramGrowth = uint64_t{700} << 10;

std::string megabytes(uint64_t bytes) {
  return fmt::format("{:.2f}", static_cast<double>(bytes) * 1e-6);
}

// What the widths of pieces come to, where they are not full.
std::string narrower(const Widths& widths) {
  const auto part = [&](const char* when, uint64_t bytes, double loss) {
    return bytes == widths.full_bytes
               ? std::string()
               : fmt::format(
                     "{}weights at {:.1f} % of their full width, which loses {:.4f} nats", when,
                     100.0 * static_cast<double>(bytes) / static_cast<double>(widths.full_bytes),
                     loss);
  };
  return part(", ", widths.bytes, widths.loss) +
         (widths.early_bytes == widths.bytes
              ? ""
              : part("; at first ", widths.early_bytes, widths.early_loss));
}

}  // namespace

void declare_memory_options(cxxopts::Options& options) {
  options.add_options()(
      "memory", "Where weights live (default: as the file was made for, or as the limit allows)",
      cxxopts::value<std::string>(), memory_mode_names())(
      "memory-limit", "Memory limit: 64MB, 512M, 1G", cxxopts::value<std::string>(), "SIZE")(
      "neuron-cache", "Share of the neurons cached in memory (sparse)",
      cxxopts::value<std::string>(),
      "SHARE")("head-cache", "Share of a clustered head kept in memory",
               cxxopts::value<std::string>(), "SHARE")(
      "embedding-cache", "Rows of the embedding kept in memory", cxxopts::value<std::string>(),
      "ROWS")("device", "Figures of this device, by rwkv-edge profile",
              cxxopts::value<std::string>(), "FILE")(
      "speed", "Tokens per second to be reached, with --device", cxxopts::value<std::string>(),
      "N")("first-token", "Milliseconds to the first token to be reached, with --device",
           cxxopts::value<std::string>(), "MS")(
      "weight-bytes", "Streamed: weights in memory and read per token, at most; narrower widths",
      cxxopts::value<std::string>(), "SIZE");
}

Result<MemoryOptions> memory_from(const cxxopts::ParseResult& arguments, unsigned n_threads) {
  MemoryOptions options;
  options.n_threads = n_threads;
  if (const auto memory = process_memory()) {
    options.program_bytes = memory->rss + kProgramGrowth;
  }
  if (arguments.count("memory") > 0) {
    RWKV_ASSIGN(options.mode, memory_mode_named(arguments["memory"].as<std::string>(), "--memory"));
  }
  RWKV_ASSIGN(options.limit, cli::byte_size(arguments, "memory-limit", 0));
  if (arguments.count("neuron-cache") > 0) {
    RWKV_ASSIGN(options.neuron_cache, cli::real(arguments, "neuron-cache", 0.0, 1.0));
  }
  if (arguments.count("head-cache") > 0) {
    RWKV_ASSIGN(options.head_cache, cli::real(arguments, "head-cache", 0.0, 1.0));
  }
  if (arguments.count("embedding-cache") > 0) {
    RWKV_ASSIGN(const int64_t rows, cli::integer(arguments, "embedding-cache", 0, INT32_MAX));
    options.embedding_rows = static_cast<uint64_t>(rows);
  }
  if (arguments.count("device") > 0) {
    RWKV_ASSIGN(options.stream.device, device_from(arguments["device"].as<std::string>()));
  }
  if (arguments.count("speed") > 0) {
    RWKV_ASSIGN(options.stream.tokens_per_second, cli::real(arguments, "speed", 1e-6, 1e6));
  }
  if (arguments.count("first-token") > 0) {
    RWKV_ASSIGN(const double ms, cli::real(arguments, "first-token", 1e-3, 1e9));
    options.stream.first_token_seconds = 1e-3 * ms;
  }
  RWKV_ASSIGN(options.stream.weight_bytes, cli::byte_size(arguments, "weight-bytes", 0));
  return options;
}

void say_memory_choice(const cxxopts::ParseResult& arguments, const Model& model,
                       const MemoryOptions& options) {
  const Residency& residency = model.weights().residency();
  const ModeTraits& mode = mode_traits(residency.mode);
  if (options.limit == 0 && (options.mode || mode.mode == MemoryMode::Full)) {
    return;
  }
  std::string text = mode.name;
  if (residency.pinned_blocks > 0) {
    text +=
        fmt::format(" with {} of {} blocks kept", residency.pinned_blocks, model.config().n_layer);
  }
  if (mode.dense == DenseWeights::Ahead) {
    text += fmt::format(" with {:.1f} % kept", 100 * residency.kept_share);
  }
  text += fmt::format(", {} MB", megabytes(residency.account.total()));
  text += narrower(residency.widths);
  if (residency.seconds_per_token > 0) {
    text += fmt::format("; about {:.2f} tokens/s", 1.0 / residency.seconds_per_token);
  }
  if (options.stream.first_token_seconds > 0) {
    text += fmt::format(", the first in {:.0f} ms", 1e3 * residency.seconds_of_first);
  }
  const std::string read = describe(residency.read);
  text += read.empty() ? "" : fmt::format("; {}", read);
  if (options.limit == 0 && options.stream.tokens_per_second == 0 &&
      options.stream.first_token_seconds == 0) {
    text += "; the file was made for it (--memory loaded holds everything)";
  }
  say(arguments, fmt::format("memory: {}", text));
}

void print_account(const Weights& weights, size_t n_tokens) {
  const Traffic traffic = weights.traffic();
  const Account& account = weights.account();
  const Residency& residency = weights.residency();
  const ModeTraits& mode = mode_traits(residency.mode);
  const double per_token = n_tokens > 0 ? 1.0 / static_cast<double>(n_tokens) : 0.0;
  cli::print(stderr, "memory {}", mode.name);
  if (residency.pinned_blocks > 0) {
    cli::print(stderr, ", {} of {} blocks kept", residency.pinned_blocks, weights.config().n_layer);
  }
  if (mode.dense == DenseWeights::Ahead) {
    cli::print(stderr, ", {:.1f} % kept{}", 100 * residency.kept_share, narrower(residency.widths));
  }
  if (mode.has_caches()) {
    cli::print(stderr, ", neuron cache {:.3f}, head cache {:.3f}, embedding cache {} rows",
               residency.neuron_cache, residency.head_cache, residency.embedding_rows);
  }
  cli::print(stderr, "\n{:<14} {:>12} {:>12} {:>14} {:>9}\n", "MB", "resident", "of it cache",
             "read per token", "hit rate");
  for (const ComponentTraits& traits : component_list()) {
    const ComponentBytes& bytes = account.at(traits.component);
    const ComponentTraffic& moved = traffic.at(traits.component);
    if (bytes.resident == 0 && moved.read == 0) {
      continue;
    }
    const uint64_t asked = moved.hits + moved.misses;
    cli::print(stderr, "{:<14} {:>12} {:>12} {:>14.3f} {:>9}\n", traits.name,
               megabytes(bytes.resident), megabytes(bytes.cached),
               static_cast<double>(moved.read) * 1e-6 * per_token,
               asked == 0 ? ""
                          : fmt::format("{:.1f} %", 100.0 * static_cast<double>(moved.hits) /
                                                        static_cast<double>(asked)));
  }
  cli::print(stderr, "{:<14} {:>12} {:>12} {:>14.3f}\n", "weights", megabytes(account.weights()),
             "", static_cast<double>(traffic.read()) * 1e-6 * per_token);
  cli::print(stderr, "{:<14} {:>12}\n", "all", megabytes(account.total()));
  if (const Stream* stream = weights.stream()) {
    const StreamStats stats = stream->stats();
    cli::print(
        stderr, "stream         {} pieces, {} reads at {:.0f} MB/s, waited {:.2f} ms per token\n",
        stats.n_pieces, stats.is_direct ? "direct" : "cached",
        stats.read_seconds > 0 ? 1e-6 * static_cast<double>(stats.read_bytes) / stats.read_seconds
                               : 0.0,
        1e3 * stats.waited_seconds * per_token);
  }
  if (const auto memory = process_memory()) {
    cli::print(stderr, "{:<14} {:>12}  (this process, as the system counts it)\n", "measured",
               megabytes(memory->rss));
  }
}

nlohmann::ordered_json account_to_json(const Weights& weights, size_t n_tokens) {
  const Traffic traffic = weights.traffic();
  const Account& account = weights.account();
  const Residency& residency = weights.residency();
  nlohmann::ordered_json components;
  for (const ComponentTraits& traits : component_list()) {
    const ComponentBytes& bytes = account.at(traits.component);
    const ComponentTraffic& moved = traffic.at(traits.component);
    components[traits.name] = {{"resident", bytes.resident}, {"cached", bytes.cached},
                               {"touched", moved.touched},   {"read", moved.read},
                               {"hits", moved.hits},         {"misses", moved.misses}};
  }
  nlohmann::ordered_json report = {{"mode", mode_traits(residency.mode).name},
                                   {"neuron_cache", residency.neuron_cache},
                                   {"head_cache", residency.head_cache},
                                   {"embedding_rows", residency.embedding_rows},
                                   {"pinned_blocks", residency.pinned_blocks},
                                   {"expected_read_per_token", residency.read.bytes},
                                   {"components", components},
                                   {"weights", account.weights()},
                                   {"total", account.total()},
                                   {"read", traffic.read()},
                                   {"tokens", n_tokens}};
  if (const Stream* stream = weights.stream()) {
    const StreamStats stats = stream->stats();
    report["stream"] = {{"pieces", stats.n_pieces},
                        {"ring", residency.ring_bytes},
                        {"kept_share", residency.kept_share},
                        {"predicted_seconds_per_token", residency.seconds_per_token},
                        {"predicted_seconds_of_first", residency.seconds_of_first},
                        {"bytes", residency.widths.bytes},
                        {"full_bytes", residency.widths.full_bytes},
                        {"loss", residency.widths.loss},
                        {"early_bytes", residency.widths.early_bytes},
                        {"early_loss", residency.widths.early_loss},
                        {"to_raise", stats.n_to_raise},
                        {"direct", stats.is_direct},
                        {"read", stats.read_bytes},
                        {"read_seconds", stats.read_seconds},
                        {"waited_seconds", stats.waited_seconds}};
  }
  if (const auto memory = process_memory()) {
    report["measured_rss"] = memory->rss;
    report["measured_anonymous"] = memory->anonymous;
  }
  return report;
}

}  // namespace rwkv::edge
