// A model as a file for llama.cpp: its names, shapes and settings, matrices in its types. Only
// RWKV-6 and RWKV-7. Pairs of a recipe are multiplied out; what stages added for our runtime is not
// written.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "compressor/calibrate/calibration.h"
#include "compressor/llama_cpp/block_types.h"
#include "formats/arch/identify.h"
#include "formats/base/file.h"
#include "formats/container/tensor_source.h"
#include "formats/tokenizer/chat_template.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

struct LlamaCppOptions {
  std::string output;
  OutputFile::Existing existing = OutputFile::Existing::Refuse;
  DType type = DType::F16;       ///< of the products of blocks; in block_types()
  DType head = DType::F16;       ///< of the head
  DType embedding = DType::F16;  ///< of the embedding
  std::string model_name;
  std::optional<Vocabulary> vocabulary;
  const ChatTemplate* chat = nullptr;  ///< none
  /// What is known about the inputs of products. With text each block sees what the rounded blocks
  /// before it produce.
  std::optional<Calibration> calibration;
  /// Called with the share of the work that is done.
  std::function<void(double share)> progress = [](double) {};
};

struct LlamaCppResult {
  std::vector<std::string> notes;  ///< what llama.cpp cannot hold, what had to be changed
  size_t n_tensors = 0;
};

/// Why llama.cpp cannot run this model, and what to do; ok if it can.
Status check_llama_cpp_runs(const Identified& model, const std::string& path);

/// Writes the file. The same arguments give the same bytes, with any number of threads; on failure
/// there is no file. BadInput for models that check_llama_cpp_runs() refuses, and vocabularies that
/// llama.cpp has no tokenizer for.
Result<LlamaCppResult> export_to_llama_cpp(const TensorSource& source, const Identified& model,
                                           const LlamaCppOptions& options);

}  // namespace rwkv::press
