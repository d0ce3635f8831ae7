// GCC's coverage (-fsanitize-coverage=trace-pc) for libFuzzer, which knows clang's: for targets
// with LibTorch, whose headers clang 14 does not compile as C++20. A counter for each place in the
// code, by a hash of its address; libFuzzer finds them by the name of their section. The linker
// sends GCC's calls here (--wrap), since libFuzzer has a function of that name that refuses.
#include <cstddef>
#include <cstdint>

namespace {

constexpr size_t kCounters = size_t{1} << 16;
__attribute__((section("__libfuzzer_extra_counters"))) uint8_t counters[kCounters];

}  // namespace

// The name is the compiler's and the linker's. It must not count itself.
extern "C" __attribute__((no_sanitize_coverage, no_sanitize("address", "undefined"))) void
__wrap___sanitizer_cov_trace_pc() {  // NOLINT
  const auto place = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  counters[(place ^ (place >> 16)) % kCounters] += 1;
}
