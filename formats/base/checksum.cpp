#include "formats/base/checksum.h"

#include <algorithm>
#include <vector>

#include "formats/base/file.h"

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

void StreamingXxh64::reset() {
  XXH64_reset(&state_->xxh, 0);
}

uint64_t StreamingXxh64::digest() const {
  return XXH64_digest(&state_->xxh);
}

Result<uint64_t> file_xxh64(const std::string& path) {
  constexpr size_t kBuffer = size_t{1} << 20;
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  StreamingXxh64 hash;
  std::vector<std::byte> buffer(kBuffer);
  for (uint64_t at = 0; at < file->size(); at += kBuffer) {
    const auto part = std::span(buffer).first(std::min<uint64_t>(kBuffer, file->size() - at));
    RWKV_TRY(file->read_at(at, part));
    hash.update(part);
  }
  return hash.digest();
}

}  // namespace rwkv
