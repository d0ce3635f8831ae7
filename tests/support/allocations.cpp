#include "tests/support/allocations.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<size_t> n_calls{0};
std::atomic<size_t> live{0};
std::atomic<size_t> peak{0};

void* count(void* bytes) {
  n_calls.fetch_add(1, std::memory_order_relaxed);
  const size_t now = live.fetch_add(malloc_usable_size(bytes)) + malloc_usable_size(bytes);
  size_t seen = peak.load();
  while (now > seen && !peak.compare_exchange_weak(seen, now)) {
  }
  return bytes;
}

void release(void* bytes) {
  live.fetch_sub(malloc_usable_size(bytes));
  std::free(bytes);
}

void* counted_or_null(size_t n_bytes) {
  return count(std::malloc(n_bytes == 0 ? 1 : n_bytes));
}

void* counted_or_null(size_t n_bytes, std::align_val_t alignment) {
  const auto step = static_cast<size_t>(alignment);
  return count(std::aligned_alloc(step, (n_bytes + step - 1) / step * step));
}

template <typename... Alignment>
void* counted(size_t n_bytes, Alignment... alignment) {
  void* bytes = counted_or_null(n_bytes, alignment...);
  if (!bytes) {
    throw std::bad_alloc();
  }
  return bytes;
}

}  // namespace

// All forms: where the standard library would call one of ours from another, sanitizers have their
// own, whose memory our delete may not free.
void* operator new(size_t n_bytes) {
  return counted(n_bytes);
}
void* operator new[](size_t n_bytes) {
  return counted(n_bytes);
}
void* operator new(size_t n_bytes, const std::nothrow_t&) noexcept {
  return counted_or_null(n_bytes);
}
void* operator new[](size_t n_bytes, const std::nothrow_t&) noexcept {
  return counted_or_null(n_bytes);
}
void* operator new(size_t n_bytes, std::align_val_t alignment) {
  return counted(n_bytes, alignment);
}
void* operator new[](size_t n_bytes, std::align_val_t alignment) {
  return counted(n_bytes, alignment);
}
void* operator new(size_t n_bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return counted_or_null(n_bytes, alignment);
}
void* operator new[](size_t n_bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return counted_or_null(n_bytes, alignment);
}
void operator delete(void* bytes) noexcept {
  release(bytes);
}
void operator delete[](void* bytes) noexcept {
  release(bytes);
}
void operator delete(void* bytes, const std::nothrow_t&) noexcept {
  release(bytes);
}
void operator delete[](void* bytes, const std::nothrow_t&) noexcept {
  release(bytes);
}
void operator delete(void* bytes, size_t) noexcept {
  release(bytes);
}
void operator delete[](void* bytes, size_t) noexcept {
  release(bytes);
}
void operator delete(void* bytes, std::align_val_t) noexcept {
  release(bytes);
}
void operator delete[](void* bytes, std::align_val_t) noexcept {
  release(bytes);
}
void operator delete(void* bytes, size_t, std::align_val_t) noexcept {
  release(bytes);
}
void operator delete[](void* bytes, size_t, std::align_val_t) noexcept {
  release(bytes);
}

namespace rwkv::test {

size_t n_allocations() {
  return n_calls.load(std::memory_order_relaxed);
}

PeakBytes::PeakBytes() : before_(live.load()) {
  peak.store(before_);
}

size_t PeakBytes::value() const {
  return std::max(peak.load(), before_) - before_;
}

}  // namespace rwkv::test
