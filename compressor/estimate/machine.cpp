#include "compressor/estimate/machine.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <functional>
#include <sstream>
#include <vector>

#include "compressor/checkpoint/scratch_file.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"

namespace rwkv::press {
namespace {

// Products as wide as those of models, and not so large that one takes long.
constexpr int64_t kRows = 512;
constexpr int64_t kWidth = 768;
// A tensor beyond caches whose memory the allocator gives back, as those of a forward pass.
constexpr int64_t kTensorFloats = int64_t{4} << 20;
constexpr size_t kLoopFloats = 4096;
constexpr size_t kFileBytes = size_t{8} << 20;
constexpr double kAssumedFiles = 3e8;

double now(clockid_t clock) {
  timespec time = {};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Took {
  double units = 0;
  double cpu = 0;
  double wall = 0;
};

// Repeats `work`, which counts `units`, until the time is over; the first time warms up.
Took repeat(double seconds, double units, const std::function<void()>& work) {
  work();
  const double wall = now(CLOCK_MONOTONIC);
  const double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
  Took took;
  do {
    work();
    took.units += units;
    took.wall = now(CLOCK_MONOTONIC) - wall;
  } while (took.wall < seconds);
  took.cpu = std::max(1e-9, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
  return took;
}

double loop_rate(double seconds) {
  std::vector<float> x(kLoopFloats, 1.0f);
  std::vector<float> y(kLoopFloats, 0.0f);
  float factor = 0.5f;
  const Took took = repeat(seconds, 2.0 * 16 * kLoopFloats, [&] {
    for (int round = 0; round < 16; ++round) {
      for (size_t i = 0; i < kLoopFloats; ++i) {
        y[i] = y[i] * factor + x[i];
      }
    }
    factor = y[0] < 1e30f ? factor : 0.25f;  // so that nothing is left out
  });
  return took.units / took.cpu;
}

double file_rate(double seconds, const std::string& folder) {
  constexpr int kMostPieces = 8;
  const std::vector<std::byte> piece(kFileBytes, std::byte{1});
  const auto file = ScratchFile::unnamed(folder);
  const double begin = now(CLOCK_MONOTONIC);
  double took = 0;
  int n = 0;
  for (; file.ok() && n < kMostPieces && took < seconds; ++n) {
    if (!file.value()->append(piece).ok()) {
      return kAssumedFiles;
    }
    took = now(CLOCK_MONOTONIC) - begin;
  }
  return n > 0 ? n * static_cast<double>(kFileBytes) / std::max(took, 1e-6) : kAssumedFiles;
}

// The number after a word in a file of the system, "MemAvailable:  123 kB"; 0 if there is none.
uint64_t number_after(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    uint64_t value = 0;
    if (word == key && file >> value) {
      return value;
    }
  }
  return 0;
}

uint64_t kilobytes(const char* path, const std::string& key) {
  return number_after(path, key) << 10;
}

// A number in a file of a control group; nothing for "max".
bool read_number(const std::string& path, uint64_t& value) {
  std::ifstream file(path);
  return static_cast<bool>(file >> value);
}

// What is left of one group's limit; UINT64_MAX without one.
uint64_t left_in(const std::string& folder, const char* limit, const char* used) {
  uint64_t most = 0;
  uint64_t current = 0;
  if (!read_number(folder + limit, most) || !read_number(folder + used, current)) {
    return UINT64_MAX;
  }
  // The page cache is given back when memory is needed.
  current -= std::min(current, number_after(folder + "/memory.stat", "inactive_file"));
  return most > current ? most - current : 0;
}

// The least of all limits from this process's group up.
uint64_t left_in_groups() {
  std::ifstream groups("/proc/self/cgroup");
  uint64_t least = UINT64_MAX;
  std::string line;
  while (std::getline(groups, line)) {
    const size_t second = line.find(':', line.find(':') + 1);
    if (second == std::string::npos) {
      continue;
    }
    const bool is_second = line.starts_with("0::");
    if (!is_second && line.find("memory") == std::string::npos) {
      continue;
    }
    const std::string root = is_second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char* const limit = is_second ? "/memory.max" : "/memory.limit_in_bytes";
    const char* const used = is_second ? "/memory.current" : "/memory.usage_in_bytes";
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      least = std::min(least, left_in(root + (path == "/" ? "" : path), limit, used));
      if (path.empty() || path.find('/') == std::string::npos) {
        break;
      }
    }
  }
  return least;
}

}  // namespace

double Machine::cpu_seconds(const Needs& needs) const {
  Effort all = needs.serial;
  all += needs.parallel;
  return all.products / products + all.loops / loops + all.bytes / bytes +
         static_cast<double>(needs.files) / files;
}

double Machine::wall_seconds(const Needs& needs) const {
  const Effort& alone = needs.serial;
  const Effort& together = needs.parallel;
  const double n = threads;
  const double seconds = alone.products / products + alone.loops / loops + alone.bytes / bytes +
                         together.products / products_together + together.loops / (loops * n) +
                         together.bytes / (bytes * n);
  return seconds / share + static_cast<double>(needs.files) / files;
}

Machine measure_machine(double seconds, const std::string& folder) {
  const at::NoGradGuard no_grad;
  const double begin = now(CLOCK_MONOTONIC);
  const double turn = seconds / 5;
  Machine machine;
  machine.threads = std::max(1, at::get_num_threads());
  const at::Tensor x = at::ones({kRows, kWidth}, at::kFloat);
  const at::Tensor w = at::ones({kWidth, kWidth}, at::kFloat);
  at::Tensor y = at::mm(x, w);
  const double product = 2.0 * kRows * kWidth * kWidth;
  const Took together = repeat(turn, product, [&] { at::mm_out(y, x, w); });
  {
    const SingleThread one;
    const Took alone = repeat(turn, product, [&] { at::mm_out(y, x, w); });
    machine.products = alone.units / alone.cpu;
    machine.share = std::min(1.0, alone.cpu / alone.wall);
    const at::Tensor large = at::ones({kTensorFloats}, at::kFloat);
    const Took adding = repeat(turn, 3.0 * sizeof(float) * kTensorFloats,
                               [&] { const at::Tensor sum = at::add(large, large); });
    machine.bytes = adding.units / adding.cpu;
    machine.loops = loop_rate(turn);
  }
  // As fast as all threads could be, if this process had the machine for itself.
  machine.products_together = std::clamp(together.units / together.wall / machine.share,
                                         machine.products, machine.products * machine.threads);
  machine.files = file_rate(turn, folder);
  machine.measured_in = now(CLOCK_MONOTONIC) - begin;
  return machine;
}

uint64_t resident_bytes() {
  return kilobytes("/proc/self/status", "VmRSS:");
}

uint64_t peak_bytes() {
  return kilobytes("/proc/self/status", "VmHWM:");
}

uint64_t available_memory() {
  const uint64_t system = kilobytes("/proc/meminfo", "MemAvailable:");
  const uint64_t groups = left_in_groups();
  return system == 0 ? (groups == UINT64_MAX ? 0 : groups) : std::min(system, groups);
}

uint64_t free_disk(const std::string& folder) {
  struct statvfs info = {};
  return ::statvfs(folder.empty() ? "." : folder.c_str(), &info) == 0
             ? uint64_t{info.f_bavail} * info.f_frsize
             : 0;
}

}  // namespace rwkv::press
