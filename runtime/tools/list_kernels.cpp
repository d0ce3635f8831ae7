// rwkv-edge --list-kernels: the kernel sets in this program.
#include <fmt/format.h>

#include "formats/cli/print.h"
#include "runtime/kernels/kernels.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {

void declare_list_kernels(cxxopts::Options& /*options*/,
                          std::vector<std::string>& /*positionals*/) {}

Status run_list_kernels(const cxxopts::ParseResult& /*arguments*/) {
  RWKV_TRY(kernels().status());
  const KernelSet* in_use = kernels().value();
  for (const KernelSet* set : kernel_list()) {
    cli::print("{:<16} {}\n", set->name,
               set == in_use      ? "in use"
               : set->runs_here() ? "runs here"
                                  : "not supported by this processor");
  }
  return {};
}

}  // namespace rwkv::edge
