// Reads a strided view of a storage as contiguous row-major bytes, with little memory besides the
// output: it walks the storage in its own order and puts each element in its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

/// Element (i, j, ...) lies at byte offset + element_bytes * (i * strides[0] + ...). All elements
/// lie within the storage and all byte offsets fit; state_dict.cpp guarantees both.
struct StridedView {
  uint64_t offset = 0;
  uint64_t element_bytes = 1;
  std::vector<uint64_t> shape;
  std::vector<uint64_t> strides;
};

bool is_contiguous(const StridedView& view);

/// Fills `out` with bytes of the storage, from `offset` on.
using ReadStorage = std::function<Status(uint64_t offset, std::span<std::byte> out)>;

/// Fills `out` with the bytes of the contiguous form, from `first_byte` on.
Status read_strided(const StridedView& view, uint64_t first_byte, std::span<std::byte> out,
                    const ReadStorage& read_storage);

}  // namespace rwkv::press
