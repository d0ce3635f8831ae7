// Any bytes as a file of a state: loaded whole, or refused with the state as it was.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "runtime/model/state_file.h"

namespace {

// The model of the seeds (make_seeds.cpp).
rwkv::ModelConfig small_model() {
  rwkv::ModelConfig config;
  config.version = rwkv::Version::V6;
  config.n_layer = 1;
  config.n_embd = 4;
  config.dim_att = 4;
  config.n_head = 2;
  config.head_size = 2;
  config.n_vocab = 3;
  return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> bytes(size);
  std::memcpy(bytes.data(), data, size);
  // With the right checksum, so that what it protects is reached too.
  constexpr size_t kHashed = 16;
  if (size > kHashed && std::memcmp(data, "RWKVSF01", 8) == 0) {
    const uint64_t hash = rwkv::xxh64(std::span(bytes).subspan(kHashed));
    rwkv::store_le<uint64_t>(bytes.data() + 8, hash);
  }
  const int fd = memfd_create("fuzz", 0);
  if (fd < 0 || write(fd, bytes.data(), size) != static_cast<ssize_t>(size)) {
    std::abort();
  }
  rwkv::edge::State state(small_model(), 7);
  const std::vector<float> before(state.values().begin(), state.values().end());
  const auto loaded = rwkv::edge::load_state_file("/proc/self/fd/" + std::to_string(fd), state);
  close(fd);
  const auto values = state.values();
  if (loaded.ok() ? !std::all_of(values.begin(), values.end(),
                                 [](float value) { return std::isfinite(value); })
                  : !std::equal(values.begin(), values.end(), before.begin())) {
    std::abort();
  }
  return 0;
}
