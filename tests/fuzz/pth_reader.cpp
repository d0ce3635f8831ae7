// Fuzz target for the .pth reader. The first byte chooses: the rest as a file (zip or legacy), or
// as a bare pickle, which the checksums of a zip file would otherwise keep mutations away from.
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined ... -lz
#include <algorithm>
#include <cstdlib>

#include "compressor/checkpoint/pth_reader.h"
#include "compressor/checkpoint/state_dict.h"
#include "compressor/checkpoint/unpickler.h"
#include "tests/fuzz/memory_file.h"

namespace {

void read_pickle(std::span<const std::byte> bytes) {
  rwkv::press::PickleInput input({bytes.begin(), bytes.end()}, "fuzz");
  const auto pickle = rwkv::press::unpickle(input, bytes.size());
  if (pickle.ok()) {
    (void)rwkv::press::read_state_dict(*pickle.value().root, "fuzz").ok();
  }
}

void read_file(std::span<const std::byte> bytes) {
  const rwkv::test::MemoryFile file(bytes);
  const auto opened = rwkv::press::open_pth(file.path());
  if (!opened.ok()) {
    return;
  }
  const rwkv::TensorSource& source = *opened.value();
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    // Expanded tensors may be larger than what a fuzzer has time for; slices cover them too.
    const uint64_t size = source.tensors()[i].n_bytes();
    std::vector<std::byte> out(static_cast<size_t>(std::min<uint64_t>(size, 4099)));
    (void)source.read_range(i, size - out.size(), out).ok();
    if (size <= 65536) {
      (void)source.read(i, out).ok();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (size > 0) {
    (data[0] % 2 == 0 ? read_file : read_pickle)(bytes.subspan(1));
  }
  return 0;
}
