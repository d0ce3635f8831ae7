// Checkpoints as other programs write them: the tensors of a small synthetic model under their
// names, shapes and orders, in one file or in parts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "formats/container/tensor_source.h"
#include "tests/support/support.h"

namespace rwkv::test {

struct RawTensor {
  TensorInfo info;
  std::vector<std::byte> bytes;
};
using RawTensors = std::vector<RawTensor>;

/// A model of two blocks in `dtype` under BlinkDL's names and in his shapes.
RawTensors plain_model(const std::string& arch, const std::string& dtype, uint64_t n_embd = 192);

/// All tensors of an open checkpoint.
RawTensors raw_tensors(const TensorSource& source);

RawTensors to_hugging_face(const RawTensors& plain);   ///< v4, v5.x, v6
RawTensors to_hugging_face7(const RawTensors& plain);  ///< "model." and lm_head, else plain
enum class Mixing { Separate, Joint };
RawTensors to_fla7(const RawTensors& plain, Mixing mixing);
RawTensors to_fla6(const RawTensors& plain);
enum class Small { Transposed, Plain };
RawTensors to_web_rwkv(const RawTensors& plain, Small small);

/// Every name changed.
RawTensors renamed(RawTensors tensors, const std::function<std::string(std::string)>& name);
RawTensors with_prefix(RawTensors tensors, const std::string& prefix);

/// By the ending: .pth and .bin as PyTorch, others as safetensors.
void write_raw(const std::string& path, const RawTensors& tensors);
enum class Index { Yes, No };
/// In `n` parts "STEM-00001-of-0000N.ENDING" in the folder, as Hugging Face does.
void write_parts(const std::string& folder, const std::string& stem, const std::string& ending,
                 size_t n, const RawTensors& tensors, Index index = Index::Yes);

}  // namespace rwkv::test
