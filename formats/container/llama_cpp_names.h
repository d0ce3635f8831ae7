// The tensor names that llama.cpp gives to RWKV v6 and v7 in GGUF, and what its converter changed
// in values and shapes, turned into a list that undoes it. Facts from llama.cpp's
// convert_hf_to_gguf.py (Rwkv6Model, Rwkv7Model) and src/models/rwkv6.cpp, rwkv7.cpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/container/adapted_source.h"
#include "formats/container/gguf_reader.h"

namespace rwkv {

/// True for the values of general.architecture that are read here: "rwkv6" and "rwkv7".
bool is_llama_cpp_rwkv(std::string_view architecture);

/// Why a GGUF of another architecture cannot be read, and what to do, in one sentence's end:
/// models that are relatives of RWKV are named for what they are.
std::string refused_architecture(std::string_view architecture);

/// Sizes from the metadata that the undoing needs.
struct LlamaCppModel {
  std::string_view architecture;  ///< one that is_llama_cpp_rwkv accepts
  uint64_t n_embd = 0;
  uint64_t head_size = 0;  ///< divides n_embd
  /// v6 only: the weights that write to the residual stream were divided by
  /// 2^(layer / rescale_every), and the graph halves the stream as often. 0: not done.
  uint64_t rescale_every = 0;
};

/// How a tensor of llama.cpp's is made of BlinkDL's.
enum class LlamaCppForm {
  AsIs,
  Flat,        ///< one dimension
  Transposed,  ///< the last two dimensions swapped
  Fused,       ///< vectors, one after another
};

struct LlamaCppTensor {
  std::string name;
  std::vector<std::string> sources;  ///< BlinkDL's names; more than one if fused
  LlamaCppForm form = LlamaCppForm::AsIs;
};

/// What llama.cpp wants of a model, in the order of use. Block 0 of v7 has v0, v1 and v2, which are
/// not used: they are made of a0, a1 and a2, as its converter does. Empty for an architecture that
/// is_llama_cpp_rwkv refuses.
std::vector<LlamaCppTensor> llama_cpp_tensors(std::string_view architecture, uint64_t n_layer);

/// Keeps the order of `tensors`. Messages do not name the file.
Result<std::vector<AdaptedTensor>> undo_llama_cpp_conversion(std::span<const GgufTensor> tensors,
                                                             const LlamaCppModel& model);

}  // namespace rwkv
