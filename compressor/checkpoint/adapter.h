// Adapters: files of a fine-tuning that hold what was trained and not the model. Their tensors by
// name, as RWKV-PEFT writes them, and as Hugging Face's PEFT does for the same models. Merging is
// in merged_source.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/container/tensor_source.h"

namespace rwkv::press {

/// Which part of an adapter a tensor is. For a matrix W, [out, in]:
enum class AdapterPart {
  LoraA,      ///< [rank, in]:  W + alpha / rank * B A
  LoraB,      ///< [out, rank]
  InitLoraA,  ///< PiSSA's factors before training, same shapes: W - B0 A0 + B A
  InitLoraB,
  Disha,  ///< [rank, out]: W[o][i] + D[i mod rank][o]; or the same as Bone
  Bone,   ///< [in / rank, rank, rank]: blocks of W, [rank, rank] each, W_ab + W_ab M_b + M_b
};

struct AdapterName {
  std::string target;  ///< the tensor that it changes: "blocks.0.att.key.weight"
  AdapterPart part;
};

/// `name` as part of an adapter; nothing for other tensors. Prefixes of training code ("model.",
/// "base_model.model.") and the endings of Hugging Face ("lora_A.weight", "lora_A.default.weight")
/// are accepted.
std::optional<AdapterName> parse_adapter_name(std::string_view name);

/// `name` without the prefixes of training code: "blocks.0.att.w0".
std::string_view without_training_prefix(std::string_view name);

/// The same, and without what PEFT puts into the names of modules that it trains whole.
std::string plain_module_name(std::string_view name);

/// A tensor of a model under the name that another program gives it.
struct ForeignTarget {
  std::string name;            ///< BlinkDL's: "blocks.0.att.receptance.weight"
  bool is_transposed = false;  ///< the other program has the matrix the other way round
};
/// What `name`, without prefixes of training code, may be in Hugging Face's and
/// flash-linear-attention's models: "layers.0.attn.r_proj.weight". Empty if it is no such name, or
/// names a tensor that BlinkDL divides into several.
std::vector<ForeignTarget> foreign_targets(std::string_view name);

/// Whether `source` is an adapter alone: it has parts of one, and no embedding.
bool is_adapter(const TensorSource& source);
/// "LoRA", "PiSSA's initial values", "DiSHA" or "Bone", by the first part that `source` has; "" if
/// it has none.
std::string_view adapter_kind(const TensorSource& source);

/// Whether `source` is a tuned state alone: tensors blocks.N.att.time_state and no others.
bool is_tuned_state(const TensorSource& source);

}  // namespace rwkv::press
