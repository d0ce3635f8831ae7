// The recurrent state: everything the model remembers. All f32, layer after layer, each
//   att_shift [n_embd], wkv, ffn_shift [n_embd]
// with wkv = num, den, max [dim_att] each for v4; [head][key][value] for v5 and v6;
// [head][value][key] for v7. A saved state is a small header and these floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "formats/arch/model_config.h"
#include "formats/base/status.h"
#include "runtime/model/pass.h"
#include "runtime/storage/large_pages.h"

namespace rwkv::edge {

class State {
 public:
  /// The state before any token: empty, or `initial`, all floats of a state, where a model or the
  /// user begins with another one. `model_id` ties saved states to the model that made them.
  State(const ModelConfig& config, uint64_t model_id,
        std::shared_ptr<const std::vector<float>> initial = nullptr);

  /// Back to the state before any token.
  void reset();
  LayerState layer(size_t index);
  std::span<float> values() { return values_; }
  std::span<const float> values() const { return values_; }

  const ModelConfig& config() const { return config_; }
  uint64_t model_id() const { return model_id_; }

  /// Bytes of a saved state.
  size_t saved_bytes() const;
  /// Writes saved_bytes() bytes; a smaller `out` is a usage error.
  Status save(std::span<std::byte> out) const;
  /// Replaces the state by a saved one. Refuses a state of another model or size, or with a wrong
  /// checksum, and does not change then.
  Status load(std::span<const std::byte> bytes);

 private:
  ModelConfig config_;
  uint64_t model_id_;
  std::shared_ptr<const std::vector<float>> initial_;     ///< null: empty
  std::vector<float, LargePageAllocator<float>> values_;  // read and written with every token
};

}  // namespace rwkv::edge
