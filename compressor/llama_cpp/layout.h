// What a file for llama.cpp will hold: each tensor with its type and shape, before anything is
// read; and the settings of the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/arch/identify.h"
#include "formats/container/gguf_metadata.h"
#include "formats/container/llama_cpp_names.h"

namespace rwkv::press {

/// The types of matrices that have a choice.
struct LlamaCppTypes {
  DType products;
  DType head;
  DType embedding;
};

struct OutputTensor {
  LlamaCppTensor from;
  DType type = DType::F32;
  std::vector<uint64_t> shape;  ///< outermost first
  int64_t block = -1;
  /// The product of the block ("att.key"), or "head"; empty for all others.
  std::string product;
};

/// "rwkv6" or "rwkv7"; nullptr for versions that llama.cpp does not run.
const char* llama_cpp_architecture(Version version);

/// In the order of the file. Rows that are no whole number of a type's blocks get a narrower type;
/// a note says so.
std::vector<OutputTensor> llama_cpp_layout(const Identified& model, const LlamaCppTypes& types,
                                           std::vector<std::string>& notes);

/// general.* and the settings of the architecture.
GgufMetadata llama_cpp_settings(const ModelConfig& config, const LlamaCppTypes& types,
                                const std::string& model_name);

}  // namespace rwkv::press
