// rwkv-edge --list-kernels: the tables of kernels.
#include <fmt/format.h>

#include "runtime/kernels/kernels.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {

void declare_list_kernels(cxxopts::Options& /*options*/,
                          std::vector<std::string>& /*positionals*/) {}

Status run_list_kernels(const cxxopts::ParseResult& /*arguments*/) {
  RWKV_TRY(kernels().status());
  const KernelTable* in_use = kernels().value();
  for (const KernelTable& table : kernel_list()) {
    fmt::print("{:<16} {}\n", table.name,
               &table == in_use    ? "in use"
               : table.runs_here() ? "runs here"
                                   : "not on this processor");
  }
  return {};
}

}  // namespace rwkv::edge
