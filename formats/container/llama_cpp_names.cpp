#include "formats/container/llama_cpp_names.h"

#include "formats/base/damaged.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace rwkv {
namespace {

// The change that the converter made besides the name.
enum class Change {
  None,
  Squeezed,    // [1, 1, n_embd] -> [n_embd]
  Flattened,   // [heads, size] -> possibly [n_embd]
  Transposed,  // the last two dimensions
  Rescaled,    // see LlamaCppModel::rescale_every
  SplitLerp,   // as Squeezed; newer files have them fused
  FusedWkvrg,  // five or six vectors stacked in this order
  FusedRwkvag,
};

struct NameRow {
  std::string_view theirs;    // after "blk.N."; the whole name for tensors outside of blocks
  std::string_view blinkdls;  // after "blocks.N."; for fused ones without the last letter
  Change change = Change::None;
};

constexpr std::array kOutsideBlocks = {
    NameRow{"token_embd.weight", "emb.weight"},
    NameRow{"token_embd_norm.weight", "blocks.0.ln0.weight"},
    NameRow{"token_embd_norm.bias", "blocks.0.ln0.bias"},
    NameRow{"output_norm.weight", "ln_out.weight"},
    NameRow{"output_norm.bias", "ln_out.bias"},
    NameRow{"output.weight", "head.weight"},
};

constexpr std::array kV6Blocks = {
    NameRow{"attn_norm.weight", "ln1.weight"},
    NameRow{"attn_norm.bias", "ln1.bias"},
    NameRow{"attn_norm_2.weight", "ln2.weight"},
    NameRow{"attn_norm_2.bias", "ln2.bias"},
    NameRow{"time_mix_lerp_x.weight", "att.time_maa_x", Change::Squeezed},
    NameRow{"time_mix_lerp_w.weight", "att.time_maa_w", Change::SplitLerp},
    NameRow{"time_mix_lerp_k.weight", "att.time_maa_k", Change::SplitLerp},
    NameRow{"time_mix_lerp_v.weight", "att.time_maa_v", Change::SplitLerp},
    NameRow{"time_mix_lerp_r.weight", "att.time_maa_r", Change::SplitLerp},
    NameRow{"time_mix_lerp_g.weight", "att.time_maa_g", Change::SplitLerp},
    NameRow{"time_mix_lerp_fused.weight", "att.time_maa_", Change::FusedWkvrg},
    NameRow{"time_mix_w1.weight", "att.time_maa_w1", Change::Transposed},
    NameRow{"time_mix_w2.weight", "att.time_maa_w2", Change::Transposed},
    NameRow{"time_mix_decay.weight", "att.time_decay", Change::Squeezed},
    NameRow{"time_mix_decay_w1.weight", "att.time_decay_w1", Change::Transposed},
    NameRow{"time_mix_decay_w2.weight", "att.time_decay_w2", Change::Transposed},
    NameRow{"time_mix_first.weight", "att.time_faaaa", Change::Flattened},
    NameRow{"time_mix_receptance.weight", "att.receptance.weight"},
    NameRow{"time_mix_key.weight", "att.key.weight"},
    NameRow{"time_mix_value.weight", "att.value.weight"},
    NameRow{"time_mix_gate.weight", "att.gate.weight"},
    NameRow{"time_mix_output.weight", "att.output.weight", Change::Rescaled},
    NameRow{"time_mix_ln.weight", "att.ln_x.weight"},
    NameRow{"time_mix_ln.bias", "att.ln_x.bias"},
    NameRow{"channel_mix_lerp_k.weight", "ffn.time_maa_k", Change::Squeezed},
    NameRow{"channel_mix_lerp_r.weight", "ffn.time_maa_r", Change::Squeezed},
    NameRow{"channel_mix_key.weight", "ffn.key.weight"},
    NameRow{"channel_mix_receptance.weight", "ffn.receptance.weight"},
    NameRow{"channel_mix_value.weight", "ffn.value.weight", Change::Rescaled},
};

constexpr std::array kV7Blocks = {
    NameRow{"attn_norm.weight", "ln1.weight"},
    NameRow{"attn_norm.bias", "ln1.bias"},
    NameRow{"attn_norm_2.weight", "ln2.weight"},
    NameRow{"attn_norm_2.bias", "ln2.bias"},
    NameRow{"time_mix_lerp_fused.weight", "att.x_", Change::FusedRwkvag},
    NameRow{"time_mix_w0.weight", "att.w0", Change::Squeezed},
    NameRow{"time_mix_w1.weight", "att.w1", Change::Transposed},
    NameRow{"time_mix_w2.weight", "att.w2", Change::Transposed},
    NameRow{"time_mix_a0.weight", "att.a0", Change::Squeezed},
    NameRow{"time_mix_a1.weight", "att.a1", Change::Transposed},
    NameRow{"time_mix_a2.weight", "att.a2", Change::Transposed},
    NameRow{"time_mix_v0.weight", "att.v0", Change::Squeezed},
    NameRow{"time_mix_v1.weight", "att.v1", Change::Transposed},
    NameRow{"time_mix_v2.weight", "att.v2", Change::Transposed},
    NameRow{"time_mix_g1.weight", "att.g1", Change::Transposed},
    NameRow{"time_mix_g2.weight", "att.g2", Change::Transposed},
    NameRow{"time_mix_k_k.weight", "att.k_k", Change::Squeezed},
    NameRow{"time_mix_k_a.weight", "att.k_a", Change::Squeezed},
    NameRow{"time_mix_r_k.weight", "att.r_k", Change::Flattened},
    NameRow{"time_mix_receptance.weight", "att.receptance.weight"},
    NameRow{"time_mix_key.weight", "att.key.weight"},
    NameRow{"time_mix_value.weight", "att.value.weight"},
    NameRow{"time_mix_output.weight", "att.output.weight"},
    NameRow{"time_mix_ln.weight", "att.ln_x.weight"},
    NameRow{"time_mix_ln.bias", "att.ln_x.bias"},
    NameRow{"channel_mix_lerp_k.weight", "ffn.x_k", Change::Squeezed},
    NameRow{"channel_mix_key.weight", "ffn.key.weight"},
    NameRow{"channel_mix_value.weight", "ffn.value.weight"},
};

struct Architecture {
  std::string_view name;
  std::span<const NameRow> blocks;
};
constexpr std::array kArchitectures = {Architecture{"rwkv6", kV6Blocks},
                                       Architecture{"rwkv7", kV7Blocks}};
constexpr std::string_view kFusedV6 = "wkvrg";
constexpr std::string_view kFusedV7 = "rwkvag";

const Architecture* find_architecture(std::string_view name) {
  const auto* row =
      std::find_if(kArchitectures.begin(), kArchitectures.end(),
                   [&](const Architecture& candidate) { return candidate.name == name; });
  return row == kArchitectures.end() ? nullptr : row;
}

// Relatives of RWKV that llama.cpp runs, and what they are.
struct Relative {
  std::string_view name;
  std::string_view what;
};
constexpr std::array kRelatives = {
    Relative{"arwkv7", "ARWKV: RWKV-7's time mixing with the feed-forward layers of Qwen2"},
    Relative{"rwkv6qwen2", "QRWKV: RWKV-6's time mixing in a converted Qwen2"},
};

constexpr uint64_t kMaxLayers = 4096;   // far more than any model has
constexpr uint64_t kMaxHalvings = 100;  // 2^100 still is a float

struct Renamed {
  std::string name;
  uint64_t layer = 0;
  Change change = Change::None;
};

Result<Renamed> blinkdl_name(std::string_view name, const Architecture& architecture) {
  constexpr std::string_view kBlock = "blk.";
  std::span<const NameRow> rows = kOutsideBlocks;
  std::string_view rest = name;
  std::string prefix;
  uint64_t layer = 0;
  if (name.starts_with(kBlock)) {
    const char* const digits = name.data() + kBlock.size();
    const char* const end = name.data() + name.size();
    const auto [dot, error] = std::from_chars(digits, end, layer);
    if (error != std::errc() || dot == end || *dot != '.' || layer >= kMaxLayers) {
      return damaged("tensor {}: expected blk.N. with N below {}", name, kMaxLayers);
    }
    rest = std::string_view(dot + 1, static_cast<size_t>(end - dot - 1));
    prefix = fmt::format("blocks.{}.", layer);
    rows = architecture.blocks;
  }
  for (const NameRow& row : rows) {
    if (row.theirs == rest) {
      return Renamed{prefix + std::string(row.blinkdls), layer, row.change};
    }
  }
  return bad_input(
      "tensor {}: has no place in a model of architecture {}, expected the tensors that "
      "llama.cpp's converter writes; take the original .pth",
      name, architecture.name);
}

Status check_count(const GgufTensor& tensor, uint64_t parts, uint64_t n_embd) {
  const TensorInfo info = tensor.info();
  if (info.n_elements() % parts != 0 || info.n_elements() / parts != n_embd) {
    return bad_input("tensor {} at byte {}: has shape {}, expected {}x{}; take the original .pth",
                     tensor.name, tensor.offset, shape_to_string(info.shape), parts, n_embd);
  }
  return {};
}

// The vectors of a fused tensor are consecutive; `letters` are the ends of their names.
Status split_fused(const GgufTensor& tensor, const std::string& stem, std::string_view letters,
                   uint64_t n_embd, std::vector<AdaptedTensor>& result) {
  if (tensor.info().n_elements() == (letters.size() - 1) * n_embd && letters.ends_with('g')) {
    return bad_input(
        "tensor {} at byte {}: has {} vectors of {}, expected {}: the model has no gate, so it is "
        "a relative of RWKV (ARWKV); run the file with llama.cpp",
        tensor.name, tensor.offset, letters.size() - 1, n_embd, letters.size());
  }
  RWKV_TRY(check_count(tensor, letters.size(), n_embd));
  TensorInfo part{stem, tensor.dtype, {1, 1, n_embd}};
  RWKV_TRY(check_tensor_size(part));
  for (size_t i = 0; i < letters.size(); ++i) {
    part.name = stem + letters[i];
    result.push_back({part, tensor.dtype, tensor.offset + i * part.n_bytes()});
  }
  return {};
}

Status undo_one(const GgufTensor& tensor, const Renamed& renamed, const LlamaCppModel& model,
                std::vector<AdaptedTensor>& result) {
  AdaptedTensor adapted{tensor.info(), tensor.dtype, tensor.offset};
  adapted.info.name = renamed.name;
  std::vector<uint64_t>& shape = adapted.info.shape;
  switch (renamed.change) {
    case Change::None:
      break;
    case Change::Squeezed:
    case Change::SplitLerp:
      RWKV_TRY(check_count(tensor, 1, model.n_embd));
      shape = {1, 1, model.n_embd};
      break;
    case Change::Flattened:
      RWKV_TRY(check_count(tensor, 1, model.n_embd));
      shape = {model.n_embd / model.head_size, model.head_size};
      break;
    case Change::Transposed:
      if (shape.size() < 2 || shape.size() > 3) {
        return bad_input(
            "tensor {} at byte {}: has shape {}, expected a matrix; take the original .pth",
            tensor.name, tensor.offset, shape_to_string(shape));
      }
      std::swap(shape[shape.size() - 2], shape.back());
      adapted.undo = Undo::Transpose;
      break;
    case Change::Rescaled: {
      const uint64_t halvings = model.rescale_every ? renamed.layer / model.rescale_every : 0;
      if (halvings > kMaxHalvings) {
        return bad_input(
            "tensor {}: rescaled by 2^{}, at most 2^{} is accepted; take the original .pth",
            tensor.name, halvings, kMaxHalvings);
      }
      if (halvings > 0) {
        adapted.undo = Undo::Scale;
        adapted.factor = std::ldexp(1.0f, static_cast<int>(halvings));
      }
      break;
    }
    case Change::FusedWkvrg:
      return split_fused(tensor, renamed.name, kFusedV6, model.n_embd, result);
    case Change::FusedRwkvag:
      return split_fused(tensor, renamed.name, kFusedV7, model.n_embd, result);
  }
  result.push_back(std::move(adapted));
  return {};
}

// The converter fills v7's block 0, which mixes no earlier value, with copies of a0, a1, a2.
bool is_dummy(const GgufTensor& tensor) {
  return tensor.name == "blk.0.time_mix_v0.weight" || tensor.name == "blk.0.time_mix_v1.weight" ||
         tensor.name == "blk.0.time_mix_v2.weight";
}

// What a row of the tables becomes; nothing for what is written in another way.
void append_written(const NameRow& row, const std::string& theirs, const std::string& blinkdls,
                    std::vector<LlamaCppTensor>& tensors) {
  LlamaCppTensor tensor{theirs + std::string(row.theirs), {blinkdls + std::string(row.blinkdls)}};
  const auto fuse = [&](std::string_view letters) {
    const std::string stem = tensor.sources.front();
    tensor.sources.clear();
    for (const char letter : letters) {
      tensor.sources.push_back(stem + letter);
    }
    tensor.form = LlamaCppForm::Fused;
  };
  switch (row.change) {
    case Change::None:
    case Change::Rescaled:  // half floats of llama.cpp need it, its 32-bit sums do not
      break;
    case Change::Squeezed:
      tensor.form = LlamaCppForm::Flat;
      break;
    case Change::Flattened:  // heads stay apart in v6
      tensor.form = row.blinkdls == "att.r_k" ? LlamaCppForm::Flat : LlamaCppForm::AsIs;
      break;
    case Change::Transposed:
      tensor.form = LlamaCppForm::Transposed;
      break;
    case Change::SplitLerp:
      return;
    case Change::FusedWkvrg:
      fuse(kFusedV6);
      break;
    case Change::FusedRwkvag:
      fuse(kFusedV7);
      break;
  }
  tensors.push_back(std::move(tensor));
}

// Block 0 of v7 mixes no earlier value.
void fill_dummy(LlamaCppTensor& tensor) {
  constexpr std::string_view kUnused = "blocks.0.att.v";
  std::string& name = tensor.sources.front();
  if (name.size() == kUnused.size() + 1 && name.starts_with(kUnused)) {
    name[kUnused.size() - 1] = 'a';
  }
}

}  // namespace

std::vector<LlamaCppTensor> llama_cpp_tensors(std::string_view architecture, uint64_t n_layer) {
  std::vector<LlamaCppTensor> tensors;
  const Architecture* found = find_architecture(architecture);
  if (!found) {
    return tensors;
  }
  constexpr size_t kBefore = 3;  // rows of kOutsideBlocks before the first block
  for (size_t i = 0; i < kBefore; ++i) {
    append_written(kOutsideBlocks[i], "", "", tensors);
  }
  for (uint64_t layer = 0; layer < n_layer; ++layer) {
    for (const NameRow& row : found->blocks) {
      append_written(row, fmt::format("blk.{}.", layer), fmt::format("blocks.{}.", layer), tensors);
      fill_dummy(tensors.back());
    }
  }
  for (size_t i = kBefore; i < kOutsideBlocks.size(); ++i) {
    append_written(kOutsideBlocks[i], "", "", tensors);
  }
  return tensors;
}

bool is_llama_cpp_rwkv(std::string_view architecture) {
  return find_architecture(architecture) != nullptr;
}

std::string refused_architecture(std::string_view architecture) {
  for (const Relative& relative : kRelatives) {
    if (relative.name == architecture) {
      return fmt::format(
          "general.architecture is {} ({}), whose layers are not RWKV's; expected rwkv6 or rwkv7; "
          "run the file with llama.cpp",
          architecture, relative.what);
    }
  }
  return fmt::format(
      "general.architecture is {}, which is not RWKV; expected rwkv6 or rwkv7; run the file with "
      "llama.cpp",
      value_to_string(GgufValue::string(std::string(architecture.substr(0, 64)))));
}

Result<std::vector<AdaptedTensor>> undo_llama_cpp_conversion(std::span<const GgufTensor> tensors,
                                                             const LlamaCppModel& model) {
  const Architecture* architecture = find_architecture(model.architecture);
  if (!architecture) {
    return bad_input(
        "architecture {}: expected rwkv6 or rwkv7 of llama.cpp; run the file with llama.cpp",
        model.architecture);
  }
  std::vector<AdaptedTensor> result;
  for (const GgufTensor& tensor : tensors) {
    if (is_dummy(tensor)) {
      continue;
    }
    RWKV_ASSIGN(const Renamed renamed, blinkdl_name(tensor.name, *architecture));
    RWKV_TRY(undo_one(tensor, renamed, model, result));
  }
  return result;
}

}  // namespace rwkv
