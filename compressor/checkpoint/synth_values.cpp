#include "compressor/checkpoint/synth_values.h"

#include <cmath>
#include <string_view>

#include "compressor/numerics/random.h"

namespace rwkv::press {
namespace {

uint64_t hash(uint64_t seed, uint64_t i) {
  return mix64(seed + i * kGolden);
}

uint64_t seed_of(std::string_view name, uint64_t seed) {
  uint64_t h = hash(seed, 1);
  for (const char c : name) {
    h = hash(h ^ static_cast<unsigned char>(c), 2);
  }
  return h;
}

// Close to a standard normal: the sum of four uniforms of 16 bits, scaled to variance 1
// (each has variance 65536^2 / 12).
float normal(uint64_t seed, uint64_t i) {
  const uint64_t bits = hash(seed, i);
  const auto sum = static_cast<int64_t>((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                        ((bits >> 32) & 0xffff) + (bits >> 48));
  constexpr float kScale = 2.6428e-5f;  // sqrt(3) / 65536
  return static_cast<float>(sum - 131070) * kScale;
}

float uniform(uint64_t seed, uint64_t i) {
  return static_cast<float>(hash(seed, i) >> 40) * 0x1p-24f;
}

// ln2 and ffn.key share a hidden direction of signs: its bias pushes the neurons below zero.
constexpr float kPushBias = 0.3f;
// 80 % of a normal variable lie below 0.84 deviations; the shift itself adds a little variance.
constexpr float kPush = 0.88f;
constexpr uint64_t kPushSeed = 0x5eed;

float push_sign(uint64_t channel) {
  return (hash(kPushSeed, channel) & 1) != 0 ? 1.0f : -1.0f;
}

bool ends_with(std::string_view name, std::string_view end) {
  return name.ends_with(end);
}

// Ranges of decay exponents: RWKV-LM's initialisation, spread over the channels, bent by depth.
struct DecayRange {
  float low, high;
};
DecayRange decay_range(std::string_view name) {
  if (ends_with(name, "att.w0")) {
    return {-7.0f, 3.0f};
  }
  return {-6.0f, 1.5f};
}

float vector_value(const SynthTensor& tensor, uint64_t seed, uint64_t i, uint64_t n) {
  const std::string_view name = tensor.name;
  const float t = n > 1 ? static_cast<float>(i) / static_cast<float>(n - 1) : 0.0f;
  const auto depth = static_cast<float>(tensor.depth);
  if (ends_with(name, "time_decay") || ends_with(name, "att.w0")) {
    const DecayRange range = decay_range(name);
    return range.low + (range.high - range.low) * (t * (1.0f - depth) + depth * t * t);
  }
  if (ends_with(name, "time_first") || ends_with(name, "time_faaaa")) {
    return -1.0f + 1.5f * t + 0.1f * normal(seed, i);
  }
  if (ends_with(name, "ln2.bias")) {
    return kPushBias * push_sign(i);
  }
  if (ends_with(name, ".bias")) {
    return 0.02f * normal(seed, i);
  }
  if (ends_with(name, ".weight")) {  // norms
    return 1.0f + (ends_with(name, "ln2.weight") ? 0.02f : 0.1f) * normal(seed, i);
  }
  if (ends_with(name, "k_k") || ends_with(name, "k_a")) {
    return 0.9f + 0.1f * normal(seed, i);
  }
  if (ends_with(name, "r_k") || ends_with(name, "a0") || ends_with(name, "v0")) {
    return 0.1f * normal(seed, i);
  }
  // Mixing coefficients. channel_mix sees mostly the one token whose norm carries the push.
  return uniform(seed, i);
}

float matrix_scale(const SynthTensor& tensor) {
  // Inputs are the last dimension, except in lora matrices, which are stored [in, out].
  const bool is_lora = tensor.role == Role::Lora;
  const uint64_t inputs = is_lora ? tensor.shape[tensor.shape.size() - 2] : tensor.shape.back();
  const float unit = 1.0f / std::sqrt(static_cast<float>(inputs));
  return is_lora ? 0.3f * unit : tensor.role == Role::FfnValue ? 0.5f * unit : unit;
}

// Norms fall with the token's rank, more slowly than frequencies do: rank^-1/4, never to zero.
float embedding_scale(uint64_t row) {
  const float root = std::sqrt(std::sqrt(static_cast<float>(row + 1)));
  return 0.5f / root;
}

}  // namespace

std::vector<float> synth_values(const SynthTensor& tensor, uint64_t seed) {
  const uint64_t stream = seed_of(tensor.name, seed);
  uint64_t n = 1;
  for (const uint64_t dim : tensor.shape) {
    n *= dim;
  }
  std::vector<float> values(n);
  const bool is_vector = tensor.shape.size() == 1 || tensor.role == Role::Vector;
  if (is_vector) {
    for (uint64_t i = 0; i < n; ++i) {
      values[i] = vector_value(tensor, stream, i, n);
    }
    return values;
  }
  const float scale = matrix_scale(tensor);
  const uint64_t cols = tensor.shape.back();
  const float push = kPush / (kPushBias * static_cast<float>(cols));
  for (uint64_t i = 0; i < n; ++i) {
    const float x = normal(stream, i);
    if (tensor.role == Role::Embedding) {
      values[i] = x * embedding_scale(i / cols);
    } else if (tensor.role == Role::FfnKey) {
      values[i] = x * scale - push * push_sign(i % cols);
    } else {
      values[i] = x * scale;
    }
  }
  return values;
}

}  // namespace rwkv::press
