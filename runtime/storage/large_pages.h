// Memory and files in large pages, where the system grants them: what is read in long streams then
// waits less often for addresses to be translated, and what is mapped for a moment costs one fault
// where it cost hundreds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

#include "formats/base/file.h"

namespace rwkv::edge {

inline constexpr uint64_t kLargePage = uint64_t{2} << 20;

/// At least `n_bytes`, zero, starting at a large page; empty for 0. Given back with unmap_memory.
Result<std::span<std::byte>> map_memory(uint64_t n_bytes);
void unmap_memory(std::span<std::byte> memory);

/// For vectors in such memory; a remainder that does not fill a large page is in small ones. Throws
/// std::bad_alloc if the system has no memory.
template <typename T>
struct LargePageAllocator {
  using value_type = T;  // NOLINT(readability-identifier-naming): the standard library asks for it
  T* allocate(size_t n) {
    const auto memory = map_memory(n * sizeof(T));
    if (!memory.ok()) {
      throw std::bad_alloc();
    }
    return reinterpret_cast<T*>(memory.value().data());
  }
  void deallocate(T* at, size_t n) noexcept {
    unmap_memory(std::as_writable_bytes(std::span(at, n)));
  }
  /// Elements without a given value are not touched: they are zero, and not resident before use.
  template <typename U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  bool operator==(const LargePageAllocator&) const = default;
};

/// Releases the resident part of `mapped`, whole pages of a mapped file.
void give_back(std::span<const std::byte> mapped);

/// Requests large pages for `mapped`, part of a file, from now on. Only advice: some systems hold
/// files in small pages anyway.
void want_large_pages(std::span<const std::byte> mapped);

struct FileRange {
  uint64_t offset;
  uint64_t n_bytes;
};
/// If the page cache has parts of `ranges` of the file in small pages but could have them in large
/// ones, drops them, so that they are read from storage again when they are used. `mapped` is the
/// whole file, of which nothing is resident yet. The first page shows whether this helps; if not,
/// nothing changes.
void refill_in_large_pages(const InputFile& file, std::span<const std::byte> mapped,
                           std::span<const FileRange> ranges);

}  // namespace rwkv::edge
