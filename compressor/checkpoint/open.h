// Opens any checkpoint this project reads, told apart by content: .pth (zip or legacy),
// safetensors, rwkv.cpp .bin, GGUF made for llama.cpp, and our own packed files; also in several
// parts, and under the names of other programs.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/arch/identify.h"
#include "formats/container/tensor_source.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

struct Checkpoint {
  std::unique_ptr<TensorSource> source;
  /// The vocabulary that the file carries, if it is a GGUF with one.
  std::optional<Vocabulary> vocabulary;
  /// Why the vocabulary that the file carries cannot be used; empty if it can, or there is none.
  std::string vocabulary_problem;
  /// Name of the chat template that a packed file stores; empty if none is.
  std::string chat_template;
  /// Set for packed files: their codecs may not be exact copies of the source's values.
  bool is_packed = false;
  /// Set if some tensor was rounded before: codecs coarser than f16 in packed files, ggml's block
  /// types in GGUF and rwkv.cpp files.
  bool is_quantized = false;
  /// What was decided about names and files, one short sentence each, for people.
  std::vector<std::string> notes;
};

/// `path` is a file, a folder with a checkpoint, an index of parts, or one of the parts. BadInput
/// for anything else, with what was found in its place.
Result<Checkpoint> open_checkpoint(const std::string& path);

/// Identifies the model of a checkpoint, including the group norm epsilon if the format or a
/// config.json says one that differs from BlinkDL's. Checkpoints of other models are named.
Result<Identified> identify_checkpoint(const TensorSource& source);

}  // namespace rwkv::press
