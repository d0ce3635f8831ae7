#include "runtime/model/arena.h"

#include <algorithm>

namespace rwkv::edge {

float* Arena::take(size_t n) {
  const size_t begin = used_;
  used_ += n;
  most_ = std::max(most_, used_);
  return used_ <= memory_.size() ? memory_.data() + begin : nullptr;
}

Status Arena::status() const {
  if (most_ <= memory_.size()) {
    return {};
  }
  return failed("scratch memory has {} floats for vectors, {} were taken; this is a program error",
                memory_.size(), most_);
}

}  // namespace rwkv::edge
