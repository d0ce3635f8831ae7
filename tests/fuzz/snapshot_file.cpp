// Any bytes with a right checksum as a snapshot of a training: refused, or what it holds is what a
// training can have left.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/snapshot.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/seed_models.h"

using namespace rwkv;

namespace {

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// A file in memory under the name that a snapshot of step 6 has.
class Input {
 public:
  Input() : fd_(memfd_create("fuzz", 0)) {
    std::string name = (std::filesystem::temp_directory_path() / "rwkv-fuzz-XXXXXX").string();
    require(fd_ >= 0 && mkdtemp(name.data()) != nullptr);
    folder_ = name;
    std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(fd_), path());
  }
  ~Input() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string path() const { return folder_ + "/step-00000006.safetensors"; }
  void write(std::span<const std::byte> bytes) const {
    require(ftruncate(fd_, 0) == 0 &&
            pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
  }

 private:
  int fd_;
  std::string folder_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Input input;
  static press::AdamW optimizer({{"matrix", at::ones({2, 3})}}, {});
  input.write(test::sealed(std::as_bytes(std::span(data, size))));
  constexpr uint64_t kSteps = 100;
  const auto state =
      press::load_snapshot(input.path(), std::string(test::kSnapshotSettings), kSteps, optimizer);
  if (!state.ok()) {
    return 0;
  }
  require(state.value().step == 6 && state.value().seconds >= 0 && !state.value().threads.empty());
  require(std::all_of(state.value().threads.begin(), state.value().threads.end(),
                      [](int n) { return n >= 1 && n <= press::kMaxTrainThreads; }));
  require(at::isfinite(optimizer.parameters()[0].values).all().item<bool>());
  require(at::isfinite(optimizer.mean(0)).all().item<bool>());
  require(optimizer.square(0).min().item<float>() >= 0);
  return 0;
}
