#include "compressor/checkpoint/wrong_input.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "compressor/checkpoint/adapter.h"

namespace rwkv::press {
namespace {

constexpr size_t kHeadBytes = 512;
constexpr const char* kExpected =
    "expected a checkpoint (.pth, .safetensors, rwkv.cpp .bin or GGUF)";

// Lower case, without what may stand in front: a mark of UTF-8 and blanks.
std::string beginning_of(const InputFile& file) {
  std::string text(std::min<uint64_t>(file.size(), kHeadBytes), '\0');
  if (!file.read_at(0, std::as_writable_bytes(std::span(text))).ok()) {
    return "";
  }
  if (text.starts_with("\xef\xbb\xbf")) {
    text.erase(0, 3);
  }
  text.erase(0, text.find_first_not_of(" \t\r\n"));
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_text(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return c >= 0x20 || c == '\t' || c == '\r' || c == '\n';
  });
}

struct WrongFile {
  std::string_view begin;  ///< in lower case
  const char* found;
  const char* advice;
};
constexpr std::array kWrongFiles = {
    WrongFile{"version https://git-lfs", "a pointer of Git LFS in its place",
              "fetch the file itself: git lfs pull"},
    WrongFile{"<!doctype", "a web page",
              "download the file itself, not its page (Hugging Face: the address with /resolve/)"},
    WrongFile{"<html", "a web page",
              "download the file itself, not its page (Hugging Face: the address with /resolve/)"},
    WrongFile{"<?xml", "an XML text", "download the file itself; this may be a server's error"},
    WrongFile{"{", "a JSON text", "name the checkpoint, its folder, or its .index.json"},
    WrongFile{"[", "a JSON text", "name the checkpoint, its folder, or its .index.json"},
};

// --- checkpoints of something else ---

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
  if (file.size() == 0) {
    return bad_input("{}: expected a checkpoint, found an empty file", file.path());
  }
  const std::string text = beginning_of(file);
  for (const WrongFile& wrong : kWrongFiles) {
    if (text.starts_with(wrong.begin)) {
      return bad_input("{}: {}, found {}; {}", file.path(), kExpected, wrong.found, wrong.advice);
    }
  }
  if (is_text(text)) {
    constexpr size_t kShown = 40;
    const std::string line = text.substr(0, std::min(kShown, text.find_first_of("\r\n")));
    return bad_input("{}: {}, found a text that begins with '{}'; name the checkpoint", file.path(),
                     kExpected, line);
  }
  std::array<std::byte, 4> head{};
  RWKV_TRY(file.read_at(0, std::span(head).first(std::min<uint64_t>(file.size(), head.size()))));
  return bad_input("{}: {}, found a file that begins with {:02x} {:02x} {:02x} {:02x}", file.path(),
                   kExpected, static_cast<unsigned>(head[0]), static_cast<unsigned>(head[1]),
                   static_cast<unsigned>(head[2]), static_cast<unsigned>(head[3]));
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
