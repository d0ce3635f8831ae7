// The JSON header of a safetensors file: its text to a list of entries. Only the structure of the
// JSON is checked here; offsets against the file are the reader's part (safetensors_reader.cpp).
// Format: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv {

/// A tensor as the header describes it: its bytes are [begin, end) of the buffer after the header.
struct SafetensorsEntry {
  TensorInfo info;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< in the header's order
  std::map<std::string, std::string> metadata;
};

/// One row per type of ours that a safetensors file can hold: the only list of their names there.
struct SafetensorsType {
  DType dtype;
  const char* name;
};
std::span<const SafetensorsType> safetensors_types();
/// "F32, F16, ...", for messages.
std::string safetensors_type_names();

/// Refuses everything but an object of tensors with exactly dtype, shape and data_offsets, and
/// `__metadata__` with strings; duplicate keys too. Messages do not name the file.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json);

}  // namespace rwkv
