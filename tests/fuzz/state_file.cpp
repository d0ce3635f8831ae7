// Any bytes as a file of a state: loaded whole, or refused with the state as it was.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "runtime/model/state_file.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/seed_models.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  std::vector<std::byte> bytes(input.begin(), input.end());
  // With the right checksum, so that what it protects is reached too.
  constexpr size_t kHashed = 16;
  if (size > kHashed && std::memcmp(data, "RWKVSF01", 8) == 0) {
    const uint64_t hash = rwkv::xxh64(std::span(bytes).subspan(kHashed));
    rwkv::store_le<uint64_t>(bytes.data() + 8, hash);
  }
  const rwkv::test::MemoryFile file(bytes);
  rwkv::edge::State state(rwkv::test::state_model(), rwkv::test::kStateModelId);
  const std::vector<float> before(state.values().begin(), state.values().end());
  const auto loaded = rwkv::edge::load_state_file(file.path(), state);
  const auto values = state.values();
  if (loaded.ok() ? !std::all_of(values.begin(), values.end(),
                                 [](float value) { return std::isfinite(value); })
                  : !std::equal(values.begin(), values.end(), before.begin())) {
    std::abort();
  }
  return 0;
}
