#include "compressor/checkpoint/wrong_input.h"

#include <algorithm>
#include <array>
#include <vector>

#include "compressor/checkpoint/adapter.h"
#include "formats/container/file_kind.h"

namespace rwkv::press {
namespace {

bool any_name(std::span<const TensorInfo> tensors, std::string_view part) {
  return std::any_of(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) {
    return tensor.name.find(part) != std::string::npos;
  });
}

struct OtherModel {
  std::string_view part;  ///< of some tensor's name
  std::string_view also;  ///< of some other's; empty: none is needed
  const char* text;
};
constexpr const char* kTransplant =
    "holds RWKV in the body of a Transformer (ARWKV, QRWKV): RMS norms and a gated MLP; expected "
    "RWKV v4 to v7; run it with llama.cpp";
constexpr std::array kOtherModels = {
    OtherModel{"source.xxh64", "",
               "holds statistics of rwkv-press calibrate; expected a model; name the model, and "
               "this file with --stats"},
    OtherModel{".mlp.gate_proj.", "time_mixer", kTransplant},
    OtherModel{".mlp.gate_proj.", ".time_maa", kTransplant},
    OtherModel{".mlp.gate_proj.", ".time_decay", kTransplant},
    OtherModel{".mlp.gate_proj.", ".r_k", kTransplant},
    OtherModel{".mlp.gate_proj.", "",
               "holds a Transformer (Llama's or Qwen's names); expected "
               "RWKV v4 to v7; run it with llama.cpp"},
    OtherModel{".self_attn.q_proj.", "",
               "holds a Transformer; expected RWKV v4 to v7; run it with "
               "llama.cpp"},
    OtherModel{".attn.c_attn.", "",
               "holds a Transformer (GPT-2's names); expected RWKV v4 to v7; "
               "run it with llama.cpp"},
    OtherModel{".mixer.A_log", "", "holds Mamba; expected RWKV v4 to v7; run it with llama.cpp"},
    OtherModel{".attn.q_proj.", "",
               "holds another model of flash-linear-attention; expected its "
               "RWKV-6 or RWKV-7; name such a model"},
};

std::optional<std::string> adapter(const TensorSource& source) {
  const std::string_view kind = adapter_kind(source);
  if (kind.empty()) {
    return std::nullopt;
  }
  if (!is_adapter(source)) {
    return fmt::format(
        "holds a model and an adapter ({}) that is not merged into it; expected plain weights; "
        "merge it: rwkv-press export THIS --alpha A",
        kind);
  }
  return fmt::format(
      "holds an adapter ({}) without the model that it belongs to; expected a model; merge it: "
      "rwkv-press convert BASE --merge THIS",
      kind);
}

// The rwkv package's converted files: ln0 applied to the embedding, matrices [in, out].
bool is_of_rwkv_package(std::span<const TensorInfo> tensors) {
  const auto find = [&](std::string_view name) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const TensorInfo& tensor) { return tensor.name == name; });
  };
  const auto embedding = find("emb.weight");
  const auto key = find("blocks.0.ffn.key.weight");
  return embedding != tensors.end() && key != tensors.end() &&
         find("blocks.0.ln0.weight") == tensors.end() && embedding->shape.size() == 2 &&
         key->shape.size() == 2 && key->shape[0] == embedding->shape[1];
}

}  // namespace

Status not_a_checkpoint(const InputFile& file) {
  std::vector<std::byte> head(std::min<uint64_t>(file.size(), kFileKindBytes));
  RWKV_TRY(file.read_at(0, head));
  const FileKind kind = file_kind(head);
  const char* advice = kind.found == kJsonKind
                           ? "name the checkpoint, its folder, or its .index.json"
                           : "name the checkpoint";
  return bad_input(
      "{}: expected a checkpoint (.pth, .safetensors, rwkv.cpp .bin or GGUF), found {}; {}",
      file.path(), kind.found, kind.advice.empty() ? advice : kind.advice);
}

std::optional<std::string> other_model(const TensorSource& source) {
  const std::span<const TensorInfo> tensors = source.tensors();
  for (const OtherModel& other : kOtherModels) {
    if (any_name(tensors, other.part) && (other.also.empty() || any_name(tensors, other.also))) {
      return other.text;
    }
  }
  if (auto text = adapter(source)) {
    return text;
  }
  if (is_of_rwkv_package(tensors)) {
    return "was converted by the rwkv package (ln0 applied to the embedding, matrices transposed); "
           "expected a checkpoint as it was trained; take the original .pth";
  }
  return std::nullopt;
}

}  // namespace rwkv::press
