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

/// For vectors in such memory; what does not fill a large page is in small ones. Throws
/// std::bad_alloc where the system has none.
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
  /// What has no value given stays as it came: zero, and not resident before it is used.
  template <typename U>
  void construct(U* at) noexcept {
    ::new (static_cast<void*>(at)) U;
  }
  bool operator==(const LargePageAllocator&) const = default;
};

/// What is resident of `mapped`, whole pages of a mapped file, need not stay.
void give_back(std::span<const std::byte> mapped);

/// Asks for large pages where `mapped`, of a file, is used from now on. Advice: systems that hold
/// files in small pages go on doing so.
void want_large_pages(std::span<const std::byte> mapped);

struct FileRange {
  uint64_t offset;
  uint64_t n_bytes;
};
/// Where the system's cache has parts of `ranges` of the file in small pages but could have them in
/// large ones, makes it forget those, so that they come from storage again when they are used.
/// `mapped` is the whole file, of which nothing is resident yet. The first page tells whether it
/// helps; if not, all stays as it is.
void refill_in_large_pages(const InputFile& file, std::span<const std::byte> mapped,
                           std::span<const FileRange> ranges);

}  // namespace rwkv::edge
