#include "formats/base/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace rwkv {

struct StreamingXxh64::State {
  XXH64_state_t xxh;
};

uint64_t xxh64(std::span<const std::byte> bytes) {
  return XXH64(bytes.data(), bytes.size(), 0);
}

StreamingXxh64::StreamingXxh64() : state_(std::make_unique<State>()) {
  XXH64_reset(&state_->xxh, 0);
}
StreamingXxh64::~StreamingXxh64() = default;

void StreamingXxh64::update(std::span<const std::byte> bytes) {
  XXH64_update(&state_->xxh, bytes.data(), bytes.size());
}

uint64_t StreamingXxh64::digest() const {
  return XXH64_digest(&state_->xxh);
}

}  // namespace rwkv
