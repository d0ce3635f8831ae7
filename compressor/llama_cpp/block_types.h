// The types of ggml in which matrices are exported: the one list.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "formats/base/status.h"
#include "formats/container/gguf_metadata.h"
#include "formats/container/tensor_source.h"

namespace rwkv::press {

struct BlockType {
  const char* name;  ///< on command lines: "q4_0"
  DType dtype;
  GgmlType ggml;
  uint32_t file_type;  ///< llama.cpp's number of a file that is mostly of this type
  uint32_t group;      ///< values of a row that share a scale; 0: none have one
  DType narrower;      ///< for rows that are no whole number of blocks
  DType head;          ///< of the head in such a file, as llama-quantize chooses
};

std::span<const BlockType> block_types();
/// Of a dtype in the list.
const BlockType& block_type(DType dtype);
/// Usage with the names for any other one; `option` is named in the message.
Result<const BlockType*> block_type_named(const std::string& name, const char* option);
/// "f32|f16|...": for help.
std::string block_type_names();

/// `wanted`, or what rows of `cols` values can have in its place.
DType fitting_type(DType wanted, uint64_t cols);

}  // namespace rwkv::press
