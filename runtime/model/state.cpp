#include "runtime/model/state.h"

#include <algorithm>
#include <cstring>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"

namespace rwkv::edge {
namespace {

// Saved form: magic, u64 model id, u64 number of floats, u64 XXH64 of the floats, floats.
constexpr char kMagic[8] = {'R', 'W', 'K', 'V', 'S', 'T', '0', '1'};
constexpr size_t kHeaderBytes = sizeof(kMagic) + 3 * sizeof(uint64_t);

// v4's largest exponent before any token: exp() of it is zero next to any key.
constexpr float kNoExponent = -1e30f;

std::span<const std::byte> as_bytes(std::span<const float> values) {
  return std::as_bytes(values);
}

}  // namespace

State::State(const ModelConfig& config, uint64_t model_id,
             std::shared_ptr<const std::vector<float>> initial)
    : config_(config),
      model_id_(model_id),
      initial_(std::move(initial)),
      values_(config.state_floats()) {
  reset();
}

void State::reset() {
  if (initial_) {
    std::copy(initial_->begin(), initial_->end(), values_.begin());
    return;
  }
  std::fill(values_.begin(), values_.end(), 0.0f);
  if (config_.version == Version::V4) {
    for (size_t i = 0; i < config_.n_layer; ++i) {
      float* max = layer(i).wkv + 2 * config_.dim_att;
      std::fill(max, max + config_.dim_att, kNoExponent);
    }
  }
}

LayerState State::layer(size_t index) {
  float* begin = values_.data() + index * config_.state_floats_per_layer();
  float* wkv = begin + config_.n_embd;
  return {begin, wkv, wkv + config_.wkv_floats()};
}

size_t State::saved_bytes() const {
  return kHeaderBytes + values_.size() * sizeof(float);
}

Status State::save(std::span<std::byte> out) const {
  if (out.size() < saved_bytes()) {
    return usage_error("a state needs {} bytes, but the buffer has {}", saved_bytes(), out.size());
  }
  std::byte* at = out.data();
  std::memcpy(at, kMagic, sizeof(kMagic));
  store_le<uint64_t>(at + 8, model_id_);
  store_le<uint64_t>(at + 16, values_.size());
  store_le<uint64_t>(at + 24, xxh64(as_bytes(values_)));
  std::memcpy(at + kHeaderBytes, values_.data(), values_.size() * sizeof(float));
  return {};
}

Status State::load(std::span<const std::byte> bytes) {
  if (bytes.size() != saved_bytes() || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) {
    return bad_input(
        "not a saved state of this model: found {} bytes, expected {}; save it again with this "
        "model",
        bytes.size(), saved_bytes());
  }
  if (load_le<uint64_t>(bytes.data() + 8) != model_id_ ||
      load_le<uint64_t>(bytes.data() + 16) != values_.size()) {
    return bad_input("the saved state was made by another model; save it again with this model");
  }
  const std::span<const std::byte> floats = bytes.subspan(kHeaderBytes);
  if (xxh64(floats) != load_le<uint64_t>(bytes.data() + 24)) {
    return bad_input(
        "the saved state is damaged: its checksum does not match; save it again with this model");
  }
  std::memcpy(values_.data(), floats.data(), floats.size());
  return {};
}

}  // namespace rwkv::edge
