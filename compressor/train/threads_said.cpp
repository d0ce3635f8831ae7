#include "compressor/train/threads_said.h"

#include <fmt/format.h>

namespace rwkv::press {

ThreadsSaid say_threads(const std::vector<int>& saved, const std::vector<int>& now,
                        const OwnThreads& own) {
  constexpr const char* kDiffers =
      "the result will differ in rounding from that of an uninterrupted training";
  if (saved.empty()) {
    return {};
  }
  if (saved.size() != now.size()) {
    return {fmt::format("processes: {} before, now {}; {}", saved.size(), now.size(), kDiffers),
            true};
  }
  if (saved != now) {
    return {fmt::format("threads: {} before, now {}; {}", fmt::join(saved, ", "),
                        fmt::join(now, ", "), kDiffers),
            true};
  }
  if (own.now == own.before && own.otherwise != own.now) {
    return {
        fmt::format("threads: {} as before, not {}, so that the result stays the same; --threads "
                    "(convert: --train-threads) sets another number",
                    fmt::join(now, ", "), own.otherwise),
        false};
  }
  return {fmt::format("threads: {} as before", fmt::join(now, ", ")), false};
}

}  // namespace rwkv::press
