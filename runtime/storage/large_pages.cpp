#include "runtime/storage/large_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "formats/base/little_endian.h"
#include "runtime/account/account.h"

namespace rwkv::edge {
namespace {

// How much of a large page of a file the page cache has.
enum class Cached : uint8_t { Nothing, Part, All };

Cached cached(std::span<const std::byte> page, std::vector<unsigned char>& flags) {
  flags.resize(page.size() / static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)));
  if (::mincore(const_cast<std::byte*>(page.data()), page.size(), flags.data()) != 0) {
    return Cached::Nothing;
  }
  const auto n = static_cast<size_t>(std::count_if(
      flags.begin(), flags.end(), [](unsigned char flag) { return (flag & 1) != 0; }));
  return n == 0 ? Cached::Nothing : n == flags.size() ? Cached::All : Cached::Part;
}

uint64_t large_file_pages() {
  const auto memory = process_memory();
  return memory ? memory->large_file_pages : 0;
}

// Whether the system loads this page as a large one, so that there are more than `before`. It is
// not resident afterwards.
bool comes_large(std::span<const std::byte> page, uint64_t before) {
  static_cast<void>(*reinterpret_cast<const volatile std::byte*>(page.data()));
  const uint64_t after = large_file_pages();
  give_back(page);
  return after > before;
}

// The large pages of the file that the ranges touch, each once; pages that the file does not fill
// are left out.
std::vector<std::span<const std::byte>> pages_of(std::span<const std::byte> mapped,
                                                 std::span<const FileRange> ranges) {
  const auto start = reinterpret_cast<uintptr_t>(mapped.data());
  const uint64_t first = align_up(start, kLargePage) - start;
  std::vector<bool> touched(mapped.size() < first ? 0 : (mapped.size() - first) / kLargePage);
  for (const FileRange& range : ranges) {
    const uint64_t end = range.offset + range.n_bytes;
    for (uint64_t at = range.offset < first ? 0 : (range.offset - first) / kLargePage;
         at < touched.size() && first + at * kLargePage < end; ++at) {
      touched[at] = true;
    }
  }
  std::vector<std::span<const std::byte>> pages;
  for (size_t i = 0; i < touched.size(); ++i) {
    if (touched[i]) {
      pages.push_back(mapped.subspan(first + i * kLargePage, kLargePage));
    }
  }
  return pages;
}

}  // namespace

Result<std::span<std::byte>> map_memory(uint64_t n_bytes) {
  if (n_bytes == 0) {
    return std::span<std::byte>();
  }
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  n_bytes = align_up(n_bytes, page);
  void* at = ::mmap(nullptr, n_bytes + kLargePage, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) {
    return failed("not enough memory for {} bytes; try --memory layerwise or a memory limit",
                  n_bytes);
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
  // Only advice: if the system ignores it, pages are small.
  ::madvise(start + before, n_bytes, MADV_HUGEPAGE);
  return std::span(start + before, n_bytes);
}

void unmap_memory(std::span<std::byte> memory) {
  if (!memory.empty()) {
    ::munmap(memory.data(), memory.size());
  }
}

void give_back(std::span<const std::byte> mapped) {
  if (!mapped.empty()) {
    ::madvise(const_cast<std::byte*>(mapped.data()), mapped.size(), MADV_DONTNEED);
  }
}

void want_large_pages(std::span<const std::byte> mapped) {
  if (!mapped.empty()) {
    ::madvise(const_cast<std::byte*>(mapped.data()), mapped.size(), MADV_HUGEPAGE);
  }
}

void refill_in_large_pages(const InputFile& file, std::span<const std::byte> mapped,
                           std::span<const FileRange> ranges) {
  std::vector<unsigned char> flags;
  const uint64_t before = large_file_pages();
  bool is_known_to_help = false;
  for (const std::span<const std::byte> page : pages_of(mapped, ranges)) {
    const Cached cache = cached(page, flags);
    if (cache == Cached::Nothing || (cache == Cached::All && comes_large(page, before))) {
      continue;
    }
    file.forget(static_cast<uint64_t>(page.data() - mapped.data()), page.size());
    if (!is_known_to_help && !comes_large(page, before)) {
      return;
    }
    is_known_to_help = true;
  }
}

}  // namespace rwkv::edge
