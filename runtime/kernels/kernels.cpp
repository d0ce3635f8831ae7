#include "runtime/kernels/kernels.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "formats/base/nearest.h"
#include "runtime/kernels/tables.h"

namespace rwkv::edge {
namespace {

bool runs_anywhere() {
  return true;
}

constexpr KernelTable kGeneric = {"generic",
                                  runs_anywhere,
                                  generic::quantize_input,
                                  generic::matmul_for,
                                  generic::accumulate_for,
                                  generic::matmul_rows_for,
                                  generic::accumulate_rows_for,
                                  generic::wkv_v5,
                                  generic::wkv_v7};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

constexpr KernelTable kX86Avx2 = {"x86_avx2",
                                  has_avx2,
                                  x86_avx2::quantize_input,
                                  x86_avx2::matmul_for,
                                  x86_avx2::accumulate_for,
                                  x86_avx2::matmul_rows_for,
                                  x86_avx2::accumulate_rows_for,
                                  x86_avx2::wkv_v5,
                                  x86_avx2::wkv_v7};
#endif

constexpr const KernelTable* kTables[] = {
    &kGeneric,
#if defined(__x86_64__)
    &kX86Avx2,
#endif
};

Result<const KernelTable*> choose_kernels() {
  if (const char* wanted = std::getenv("RWKV_EDGE_KERNELS"); wanted && *wanted != '\0') {
    Result<const KernelTable*> found = find_kernels(wanted);
    return found.ok() ? found : found.status().in("RWKV_EDGE_KERNELS");
  }
  const KernelTable* best = &kGeneric;
  for (const KernelTable* table : kTables) {
    best = table->runs_here() ? table : best;
  }
  return best;
}

}  // namespace

std::span<const KernelTable* const> kernel_list() {
  return kTables;
}

Result<const KernelTable*> find_kernels(std::string_view name) {
  std::vector<std::string_view> names;
  for (const KernelTable* table : kTables) {
    if (name != table->name) {
      names.emplace_back(table->name);
    } else if (table->runs_here()) {
      return table;
    } else {
      return usage_error("this processor cannot run the kernels '{}'; generic run anywhere", name);
    }
  }
  return usage_error("there are no kernels '{}'{}", name, suggestion(name, names));
}

const Result<const KernelTable*>& kernels() {
  static const Result<const KernelTable*> chosen = choose_kernels();
  return chosen;
}

}  // namespace rwkv::edge
