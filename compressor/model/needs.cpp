#include "compressor/model/needs.h"

#include <algorithm>

namespace rwkv::press {
namespace {

constexpr uint64_t kFloat = sizeof(float);
// Tensors of one width that a half of a block holds at once: mixed inputs, products and what they
// become, and twice as many again that the allocator keeps; and those that it keeps for the
// backward pass.
struct Held {
  uint64_t time_mix;
  uint64_t saved;
};
constexpr Held kV7 = {40, 50};
constexpr Held kOthers = {37, 30};
// glibc gives larger ones back to the system when they are freed (the most that its threshold for
// mmap grows to), so that only those in use are held.
constexpr uint64_t kMostKept = uint64_t{32} << 20;
constexpr uint64_t kInUse = 16;
// ffn.key's outputs, relu, square.
constexpr uint64_t kHeldFfn = 3;
constexpr uint64_t kSavedFfn = 3;
// Passes over a tensor of one width that a block makes, each a read or a write.
constexpr double kPassesV7 = 110;
constexpr double kPassesOthers = 60;
constexpr double kPassesFfn = 7;
// Operations of the recurrence for each element of the state; those of v4 are exponentials.
constexpr double kRecurrenceV7 = 10;
constexpr double kRecurrence = 6;
constexpr double kRecurrenceV4 = 40;

const Held& held_by(const ModelConfig& config) {
  return is_v7(config.version) ? kV7 : kOthers;
}

double recurrence_of(Version version) {
  return is_v7(version) ? kRecurrenceV7 : version == Version::V4 ? kRecurrenceV4 : kRecurrence;
}

}  // namespace

uint64_t forward_bytes(const ModelConfig& config, uint64_t tokens) {
  const bool is_kept = kFloat * tokens * config.n_embd < kMostKept;
  return kFloat * tokens *
         std::max((is_kept ? held_by(config).time_mix : kInUse) * config.dim_att,
                  kHeldFfn * config.dim_ffn + 4 * config.n_embd);
}

uint64_t saved_bytes(const ModelConfig& config, uint64_t tokens) {
  return kFloat * tokens * (held_by(config).saved * config.dim_att + kSavedFfn * config.dim_ffn);
}

Effort forward_effort(const ModelConfig& config, uint64_t weights, uint64_t tokens) {
  const auto n = static_cast<double>(tokens);
  const auto blocks = static_cast<double>(config.n_layer);
  const double passes = is_v7(config.version) ? kPassesV7 : kPassesOthers;
  Effort effort;
  effort.products = 2 * n * static_cast<double>(weights);
  effort.loops =
      n * blocks * static_cast<double>(config.wkv_floats()) * recurrence_of(config.version);
  effort.bytes = n * blocks * static_cast<double>(kFloat) *
                 (passes * static_cast<double>(config.n_embd) +
                  kPassesFfn * static_cast<double>(config.dim_ffn));
  return effort;
}

}  // namespace rwkv::press
