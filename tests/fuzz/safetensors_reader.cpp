// Any bytes as a safetensors file: opened and, if that succeeds, read whole and in part.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "formats/container/safetensors_reader.h"
#include "tests/fuzz/memory_file.h"

namespace {

void read_everything(const rwkv::TensorSource& source) {
  std::vector<std::byte> whole;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    if (!source.read(i, whole).ok() || whole.size() != source.tensors()[i].n_bytes()) {
      std::abort();  // the reader has checked that the bytes are there
    }
    std::vector<std::byte> part(whole.size() / 2);
    const size_t offset = whole.size() / 3;
    if (!source.read_range(i, offset, part).ok() ||
        !std::equal(part.begin(), part.end(), whole.begin() + static_cast<ptrdiff_t>(offset))) {
      std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const rwkv::test::MemoryFile file(std::as_bytes(std::span(data, size)));
  const auto opened = rwkv::open_safetensors(file.path());
  if (opened.ok()) {
    read_everything(*opened.value());
  }
  return 0;
}
