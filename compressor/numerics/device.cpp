#include "compressor/numerics/device.h"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <charconv>
#include <string_view>

namespace rwkv::press {

Result<at::Device> compute_device(const std::string& name) {
  constexpr std::string_view kCuda = "cuda";
  if (name == "cpu") {
    return at::Device(at::kCPU);
  }
  int index = 0;
  bool is_known = name == kCuda;
  if (name.starts_with("cuda:")) {
    const char* const first = name.data() + kCuda.size() + 1;
    const auto [end, error] = std::from_chars(first, name.data() + name.size(), index);
    is_known = error == std::errc() && end == name.data() + name.size() && index >= 0;
  }
  if (!is_known) {
    return usage_error("--device: expected cpu, cuda or cuda:N, found '{}'", name);
  }
  if (!at::hasCUDA()) {
    return usage_error(
        "--device {}: this rwkv-press was built with a LibTorch that has no CUDA, or CUDA does not "
        "start here; build it with one that has (docs/training.md), or use --device cpu",
        name);
  }
  // The hooks that count GPUs have other names in LibTorch 2.x; the guards do not.
  const int n = c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount();
  if (index >= n) {
    return usage_error("--device {}: expected a GPU below {}, which is how many there are", name,
                       n);
  }
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
}

}  // namespace rwkv::press
