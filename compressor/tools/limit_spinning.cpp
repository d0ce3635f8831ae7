// Threads of OpenMP, which LibTorch and OpenBLAS compute with, wait for each other by spinning: for
// milliseconds by default, which on a busy machine are those that others, and the thread waited
// for, would need. libgomp takes the length from the environment when it is loaded, so main() comes
// too late. The loader calls what stands in .preinit_array before it starts any library: there the
// program replaces itself by itself, once, with GOMP_SPINCOUNT in its environment. Children inherit
// it, and whoever sets it or OMP_WAIT_POLICY has the say.
#include <sys/auxv.h>
#include <unistd.h>

#include <cstddef>

namespace {

/// About a tenth of a millisecond: longer than most waits for a thread that runs, far shorter than
/// a thread that was displaced stays away (docs/training.md).
char spin_count[] = "GOMP_SPINCOUNT=10000";

constexpr std::size_t kMaxVariables = 4096;
char* environment[kMaxVariables + 2];

// No library is ready yet, so nothing here may need one that has to be started first.
bool starts_with(const char* text, const char* prefix) {
  while (*prefix != '\0' && *text == *prefix) {
    ++text;
    ++prefix;
  }
  return *prefix == '\0';
}

void limit_spinning(int /*argc*/, char** argv, char** envp) {
  std::size_t n = 0;
  for (; envp[n] != nullptr && n < kMaxVariables; ++n) {
    if (starts_with(envp[n], "GOMP_SPINCOUNT=") || starts_with(envp[n], "OMP_WAIT_POLICY=")) {
      return;
    }
    environment[n] = envp[n];
  }
  if (envp[n] != nullptr) {
    return;
  }
  environment[n] = spin_count;
  // Under the name it was started with, which others see; where that fails, spinning stays as it
  // is.
  execve(reinterpret_cast<const char*>(getauxval(AT_EXECFN)), argv, environment);
}

__attribute__((section(".preinit_array"),
               used)) void (*const before_libraries)(int, char**, char**) = limit_spinning;

}  // namespace
