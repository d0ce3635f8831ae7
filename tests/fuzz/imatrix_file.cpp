// Any bytes as an imatrix of llama.cpp, in both forms: refused, or its means are finite, not
// negative, and no more than the file has.
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "compressor/checkpoint/imatrix_file.h"
#include "tests/fuzz/memory_file.h"

using namespace rwkv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const test::MemoryFile file(std::as_bytes(std::span(data, size)));
  const auto imatrix = press::read_imatrix(file.path());
  if (!imatrix.ok()) {
    return 0;
  }
  size_t n = 0;
  for (const auto& [name, means] : imatrix.value().mean_squares) {
    for (const float mean : means) {
      if (!std::isfinite(mean) || mean < 0) {
        std::abort();
      }
    }
    n += means.size();
  }
  if (n == 0 || n * sizeof(float) > size) {
    std::abort();
  }
  return 0;
}
