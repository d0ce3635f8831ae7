// XXH64 of byte ranges (one per tensor in a packed file) and of whole sources. The algorithm comes
// from the xxHash library's header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "formats/base/status.h"

namespace rwkv {

/// XXH64 with seed 0.
uint64_t xxh64(std::span<const std::byte> bytes);

/// XXH64 of a whole file, as the xxhsum tool prints it.
Result<uint64_t> file_xxh64(const std::string& path);

/// XXH64 with seed 0 over bytes that arrive in pieces.
class StreamingXxh64 {
 public:
  StreamingXxh64();
  ~StreamingXxh64();
  StreamingXxh64(const StreamingXxh64&) = delete;
  StreamingXxh64& operator=(const StreamingXxh64&) = delete;

  void update(std::span<const std::byte> bytes);
  /// Forgets all bytes.
  void reset();
  uint64_t digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rwkv
