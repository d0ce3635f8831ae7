// Which TimeMix a version has.
#include "runtime/model/block.h"

namespace rwkv::edge {

Result<std::unique_ptr<TimeMix>> load_time_mix(const Weights& weights, const std::string& prefix) {
  switch (weights.config().version) {
    case Version::V4:
      return load_time_mix_v4(weights, prefix);
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      return load_time_mix_v5(weights, prefix);
    case Version::V6:
      return load_time_mix_v6(weights, prefix);
    case Version::V7:
    case Version::V7a:
      return load_time_mix_v7(weights, prefix);
  }
  return bad_input("unknown version");
}

size_t time_mix_floats(const ModelConfig& config) {
  switch (config.version) {
    case Version::V4:
      return time_mix_floats_v4(config);
    case Version::V5_0:
    case Version::V5_1:
    case Version::V5_2:
      return time_mix_floats_v5(config);
    case Version::V6:
      return time_mix_floats_v6(config);
    case Version::V7:
    case Version::V7a:
      return time_mix_floats_v7(config);
  }
  return 0;
}

}  // namespace rwkv::edge
