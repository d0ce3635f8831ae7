#include "compressor/tools/blas_check.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <link.h>
#include <sched.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "compressor/numerics/tensor_ops.h"
#include "formats/cli/print.h"

namespace rwkv::press {
namespace {

// libblas.so.3 is a chain of links; where it ends says whose it is.
int find_blas(dl_phdr_info* info, size_t /*size*/, void* found) {
  const std::string path = info->dlpi_name;
  if (path.find("libblas.so") != std::string::npos || path.find("openblas") != std::string::npos) {
    std::error_code ignored;
    *static_cast<std::string*>(found) += std::filesystem::canonical(path, ignored).string() + " ";
  }
  return 0;
}

}  // namespace

void set_up_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  if (const char* wanted = std::getenv("RWKV_PRESS_THREADS")) {
    const int parsed = std::atoi(wanted);
    n = parsed > 0 ? parsed : n;
  }
  at::set_num_threads(n);
}

void warn_about_slow_blas() {
  std::string found;
  dl_iterate_phdr(find_blas, &found);
  if (found.find("openblas") == std::string::npos) {
    cli::print(stderr,
               "rwkv-press: warning: the BLAS in use is {}, which is up to 17 times slower than "
               "OpenBLAS; run scripts/setup.sh\n",
               found.empty() ? "unknown" : found);
  }
}

}  // namespace rwkv::press
