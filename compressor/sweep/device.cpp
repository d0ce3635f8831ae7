#include "compressor/sweep/device.h"

#include "compressor/options/yaml.h"

namespace rwkv::press {

Settings device_settings(HeldAs& device) {
  using namespace setting;
  return {kSweepDevice,
          {
              bytes("memory_limit", device.memory_limit, "for everything but the program")
                  .shown_if(device.memory_limit > 0),
              bytes("weight_bytes", device.weight_bytes,
                    "of all pieces that are streamed, in memory or not: chooses their widths")
                  .shown_if(device.weight_bytes > 0),
              bytes("read_speed", device.read_speed, "per second, of the storage")
                  .shown_if(device.read_speed > 0),
          }};
}

std::string device_yaml(HeldAs device) {
  if (!device.has_limits()) {
    return {};
  }
  YAML::Emitter out;
  device_settings(device).emit(out, /*flow=*/true);
  return out.c_str();
}

Result<HeldAs> read_device(const std::string& yaml, const std::string& mode,
                           const std::string& origin) {
  try {
    HeldAs device;
    device.mode = mode;
    if (!yaml.empty()) {
      RWKV_ASSIGN(const YAML::Node root, load_yaml(yaml));
      RWKV_TRY(device_settings(device).read(root).in(origin));
    }
    return device;
  } catch (const YAML::Exception& error) {
    return usage_error("{}: not valid YAML: {}; correct it there", origin, error.msg);
  }
}

}  // namespace rwkv::press
