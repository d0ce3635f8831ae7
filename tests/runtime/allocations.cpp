#include "tests/runtime/allocations.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<size_t> n_calls{0};

void* counted(size_t n_bytes) {
  n_calls.fetch_add(1, std::memory_order_relaxed);
  void* bytes = std::malloc(n_bytes == 0 ? 1 : n_bytes);
  if (!bytes) {
    throw std::bad_alloc();
  }
  return bytes;
}

void* counted(size_t n_bytes, std::align_val_t alignment) {
  n_calls.fetch_add(1, std::memory_order_relaxed);
  const auto step = static_cast<size_t>(alignment);
  void* bytes = std::aligned_alloc(step, (n_bytes + step - 1) / step * step);
  if (!bytes) {
    throw std::bad_alloc();
  }
  return bytes;
}

}  // namespace

// The forms that the standard library's others call, and the array forms, which sanitizers define
// by themselves.
void* operator new(size_t n_bytes) {
  return counted(n_bytes);
}
void* operator new[](size_t n_bytes) {
  return counted(n_bytes);
}
void* operator new(size_t n_bytes, std::align_val_t alignment) {
  return counted(n_bytes, alignment);
}
void* operator new[](size_t n_bytes, std::align_val_t alignment) {
  return counted(n_bytes, alignment);
}
void operator delete(void* bytes) noexcept {
  std::free(bytes);
}
void operator delete[](void* bytes) noexcept {
  std::free(bytes);
}
void operator delete(void* bytes, size_t) noexcept {
  std::free(bytes);
}
void operator delete[](void* bytes, size_t) noexcept {
  std::free(bytes);
}
void operator delete(void* bytes, std::align_val_t) noexcept {
  std::free(bytes);
}
void operator delete[](void* bytes, std::align_val_t) noexcept {
  std::free(bytes);
}
void operator delete(void* bytes, size_t, std::align_val_t) noexcept {
  std::free(bytes);
}
void operator delete[](void* bytes, size_t, std::align_val_t) noexcept {
  std::free(bytes);
}

namespace rwkv::test {

size_t n_allocations() {
  return n_calls.load(std::memory_order_relaxed);
}

}  // namespace rwkv::test
