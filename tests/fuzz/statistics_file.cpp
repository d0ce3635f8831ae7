// Any bytes as a statistics file: refused, or what stages take from it fits the model.
#include <cstdint>
#include <cstdlib>

#include "compressor/calibrate/statistics.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/seed_models.h"

using namespace rwkv;

static void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const test::MemoryFile file(test::sealed(std::as_bytes(std::span(data, size))));
  // The seeds have the checksum of these bytes.
  static const test::MemoryFile checkpoint(std::as_bytes(std::span(test::kStatisticsCheckpoint)));
  const ModelConfig config = test::state_model();
  const auto statistics = press::Statistics::open(file.path(), config, checkpoint.path());
  if (!statistics.ok()) {
    return 0;
  }
  const auto moments = statistics.value()->moments(0, "att.key", 4);
  require(!moments.ok() || moments.value().numel() == 16);
  const auto calibration = statistics.value()->calibration();
  if (!calibration.ok()) {
    return 0;
  }
  const at::Tensor& tokens = calibration.value().tokens;
  const auto n_vocab = static_cast<int64_t>(config.n_vocab);
  require(tokens.dim() == 2 && tokens.numel() > 0);
  require(tokens.min().item<int64_t>() >= 0 && tokens.max().item<int64_t>() < n_vocab);
  require(calibration.value().frequencies.numel() == n_vocab);
  return 0;
}
