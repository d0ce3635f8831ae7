#include "runtime/kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <cstdlib>
#include <string>
#include <vector>

#include "formats/base/nearest.h"
#include "runtime/kernels/tables.h"

namespace rwkv::edge {
namespace {

// The table of a folder, and when it may be used.
#define RWKV_KERNEL_TABLE(folder, runs_here, wants_planes)                            \
  KernelTable {                                                                       \
#folder, runs_here, wants_planes, folder::quantize_input, folder::matmul_for,     \
        folder::accumulate_for, folder::matmul_rows_for, folder::accumulate_rows_for, \
        folder::wkv_v5, folder::wkv_v7, &folder::elementwise,                         \
  }

bool anywhere() {
  return true;
}

#if defined(__x86_64__)
// Not every compiler knows its name.
bool with_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool with_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && with_f16c();
}
bool with_avx512vnni() {
  return with_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
bool with_dotprod() {
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

// Plainest first; the last that runs here is used.
constexpr KernelTable kTables[] = {
    RWKV_KERNEL_TABLE(generic, anywhere, false),
#if defined(__x86_64__)
    RWKV_KERNEL_TABLE(x86_avx2, with_avx2, true),
    RWKV_KERNEL_TABLE(x86_avx512vnni, with_avx512vnni, true),
#elif defined(__aarch64__)
    RWKV_KERNEL_TABLE(arm_neon, anywhere, false),
    RWKV_KERNEL_TABLE(arm_dotprod, with_dotprod, false),
#endif
};

#undef RWKV_KERNEL_TABLE

Result<const KernelTable*> choose_kernels() {
  if (const char* wanted = std::getenv("RWKV_EDGE_KERNELS"); wanted && *wanted != '\0') {
    Result<const KernelTable*> found = find_kernels(wanted);
    return found.ok() ? found : found.status().in("RWKV_EDGE_KERNELS");
  }
  const KernelTable* best = kTables;
  for (const KernelTable& table : kTables) {
    best = table.runs_here() ? &table : best;
  }
  return best;
}

}  // namespace

void byte_inputs(int16_t* q, size_t cols) {
  for (size_t i = 0; i < cols; ++i) {
    // No larger than kMostInput, so half of the step more still fits.
    q[i] = static_cast<int16_t>((q[i] + kByteInput / 2) & ~(kByteInput - 1));
  }
}

void byte_planes(const int16_t* q, size_t cols, int8_t* planes) {
  for (size_t first = 0; first < cols; first += kPlaneBlock) {
    for (size_t k = 0; k < kPlanes; ++k) {
      for (size_t j = 0; j < kPlaneBlock / kPlanes; ++j) {
        *planes++ = static_cast<int8_t>(q[first + kPlanes * j + k] / kByteInput);
      }
    }
  }
}

std::span<const KernelTable> kernel_list() {
  return kTables;
}

Result<const KernelTable*> find_kernels(std::string_view name) {
  std::vector<std::string_view> names;
  for (const KernelTable& table : kTables) {
    if (name != table.name) {
      names.emplace_back(table.name);
    } else if (table.runs_here()) {
      return &table;
    } else {
      return usage_error("this processor cannot run the kernels '{}'; generic run anywhere", name);
    }
  }
  return usage_error("there are no kernels '{}'{}", name, suggestion(name, names));
}

const Result<const KernelTable*>& kernels() {
  static const Result<const KernelTable*> kChosen = choose_kernels();
  return kChosen;
}

}  // namespace rwkv::edge
