#include "runtime/memory/large_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include "formats/base/little_endian.h"

namespace rwkv::edge {

Result<std::span<std::byte>> map_memory(uint64_t n_bytes) {
  if (n_bytes == 0) {
    return std::span<std::byte>();
  }
  constexpr uint64_t kLargePage = uint64_t{2} << 20;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  n_bytes = align_up(n_bytes, page);
  void* at = ::mmap(nullptr, n_bytes + kLargePage, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    return failed("no memory for {} bytes; try --memory layerwise or a memory limit", n_bytes);
  }
  auto* const start = static_cast<std::byte*>(at);
  const auto address = reinterpret_cast<uintptr_t>(at);
  const uint64_t before = align_up(address, kLargePage) - address;
  if (before > 0) {
    ::munmap(start, before);
  }
  if (before < kLargePage) {
    ::munmap(start + before + n_bytes, kLargePage - before);
  }
  // Advice: where it is not taken, pages are small.
  ::madvise(start + before, n_bytes, MADV_HUGEPAGE);
  return std::span(start + before, n_bytes);
}

void unmap_memory(std::span<std::byte> memory) {
  if (!memory.empty()) {
    ::munmap(memory.data(), memory.size());
  }
}

}  // namespace rwkv::edge
