#include "formats/arch/dialects.h"

#include <array>

namespace rwkv {
namespace {

using enum Change;

// transformers and the repositories with code of their own: RWKV-4 to RWKV-6 share all names.
constexpr std::array kHuggingFaceOutside = {
    ForeignName{"embeddings.weight", "emb.weight"},
    ForeignName{"lm_head.weight", "head.weight"},
};
constexpr std::array kHuggingFace = {
    ForeignName{"pre_ln.weight", "ln0.weight"},
    ForeignName{"pre_ln.bias", "ln0.bias"},
    ForeignName{"attention.time_decay", "att.time_decay"},
    ForeignName{"attention.time_first", "att.time_first"},
    ForeignName{"attention.time_faaaa", "att.time_faaaa"},
    ForeignName{"attention.time_mix_key", "att.time_mix_k"},
    ForeignName{"attention.time_mix_value", "att.time_mix_v"},
    ForeignName{"attention.time_mix_receptance", "att.time_mix_r"},
    ForeignName{"attention.time_mix_gate", "att.time_mix_g"},
    ForeignName{"attention.time_maa_x", "att.time_maa_x"},
    ForeignName{"attention.time_maa_w", "att.time_maa_w"},
    ForeignName{"attention.time_maa_k", "att.time_maa_k"},
    ForeignName{"attention.time_maa_v", "att.time_maa_v"},
    ForeignName{"attention.time_maa_r", "att.time_maa_r"},
    ForeignName{"attention.time_maa_g", "att.time_maa_g"},
    ForeignName{"attention.time_maa_w1", "att.time_maa_w1"},
    ForeignName{"attention.time_maa_w2", "att.time_maa_w2"},
    ForeignName{"attention.time_decay_w1", "att.time_decay_w1"},
    ForeignName{"attention.time_decay_w2", "att.time_decay_w2"},
    ForeignName{"attention.key.weight", "att.key.weight"},
    ForeignName{"attention.value.weight", "att.value.weight"},
    ForeignName{"attention.receptance.weight", "att.receptance.weight"},
    ForeignName{"attention.gate.weight", "att.gate.weight"},
    ForeignName{"attention.output.weight", "att.output.weight"},
    ForeignName{"attention.ln_x.weight", "att.ln_x.weight"},
    ForeignName{"attention.ln_x.bias", "att.ln_x.bias"},
    ForeignName{"feed_forward.time_mix_key", "ffn.time_mix_k"},
    ForeignName{"feed_forward.time_mix_receptance", "ffn.time_mix_r"},
    ForeignName{"feed_forward.time_maa_k", "ffn.time_maa_k"},
    ForeignName{"feed_forward.time_maa_r", "ffn.time_maa_r"},
    ForeignName{"feed_forward.key.weight", "ffn.key.weight"},
    ForeignName{"feed_forward.receptance.weight", "ffn.receptance.weight"},
    ForeignName{"feed_forward.value.weight", "ffn.value.weight"},
};

constexpr std::array kFlaOutside = {
    ForeignName{"embeddings.weight", "emb.weight"},
    ForeignName{"norm.weight", "ln_out.weight"},
    ForeignName{"norm.bias", "ln_out.bias"},
    ForeignName{"lm_head.weight", "head.weight"},
};
// RWKV-6 and RWKV-7 share these.
constexpr std::array kFlaBoth = {
    ForeignName{"pre_norm.weight", "ln0.weight"},
    ForeignName{"pre_norm.bias", "ln0.bias"},
    ForeignName{"attn_norm.weight", "ln1.weight"},
    ForeignName{"attn_norm.bias", "ln1.bias"},
    ForeignName{"ffn_norm.weight", "ln2.weight"},
    ForeignName{"ffn_norm.bias", "ln2.bias"},
    ForeignName{"attn.o_proj.weight", "att.output.weight"},
    ForeignName{"attn.g_norm.weight", "att.ln_x.weight"},
    ForeignName{"attn.g_norm.bias", "att.ln_x.bias"},
    ForeignName{"ffn.value.weight", "ffn.value.weight"},
};
constexpr std::array kFla7 = {
    ForeignName{"attn.x_x", "att.x_", Joint, "rwkvag"},  // before the six had names of their own
    ForeignName{"attn.x_r", "att.x_r", Vector},
    ForeignName{"attn.x_w", "att.x_w", Vector},
    ForeignName{"attn.x_k", "att.x_k", Vector},
    ForeignName{"attn.x_v", "att.x_v", Vector},
    ForeignName{"attn.x_a", "att.x_a", Vector},
    ForeignName{"attn.x_g", "att.x_g", Vector},
    ForeignName{"attn.w_lora.lora.2.bias", "att.w0", Vector},
    ForeignName{"attn.w_lora.lora.0.weight", "att.w1", Transpose},
    ForeignName{"attn.w_lora.lora.2.weight", "att.w2", Transpose},
    ForeignName{"attn.a_lora.lora.2.bias", "att.a0", Vector},
    ForeignName{"attn.a_lora.lora.0.weight", "att.a1", Transpose},
    ForeignName{"attn.a_lora.lora.2.weight", "att.a2", Transpose},
    ForeignName{"attn.v_lora.lora.2.bias", "att.v0", Vector},
    ForeignName{"attn.v_lora.lora.0.weight", "att.v1", Transpose},
    ForeignName{"attn.v_lora.lora.2.weight", "att.v2", Transpose},
    ForeignName{"attn.g_lora.lora.0.weight", "att.g1", Transpose},
    ForeignName{"attn.g_lora.lora.2.weight", "att.g2", Transpose},
    ForeignName{"attn.k_k", "att.k_k", Vector},
    ForeignName{"attn.k_a", "att.k_a", Vector},
    ForeignName{"attn.r_k", "att.r_k"},
    ForeignName{"attn.r_proj.weight", "att.receptance.weight"},
    ForeignName{"attn.k_proj.weight", "att.key.weight"},
    ForeignName{"attn.v_proj.weight", "att.value.weight"},
    ForeignName{"ffn.x_k", "ffn.x_k", Vector},
    ForeignName{"ffn.key.weight", "ffn.key.weight"},
};
constexpr std::array kFla6 = {
    ForeignName{"attn.x_proj.0.mu", "att.time_maa_x", Vector},
    ForeignName{"attn.x_proj.0.linear.weight", "att.time_maa_w1", MixDown},
    ForeignName{"attn.x_proj.2.weight", "att.time_maa_w2", MixUp},
    ForeignName{"attn.x_bias", "att.time_maa_", Joint, "rwkvg"},
    ForeignName{"attn.w_proj.linear.lora.0.weight", "att.time_decay_w1", Transpose},
    ForeignName{"attn.w_proj.linear.lora.2.weight", "att.time_decay_w2", Transpose},
    ForeignName{"attn.w_proj.linear.lora.2.bias", "att.time_decay", Vector},
    ForeignName{"attn.bonus", "att.time_faaaa"},
    ForeignName{"attn.r_proj.linear.weight", "att.receptance.weight"},
    ForeignName{"attn.k_proj.linear.weight", "att.key.weight"},
    ForeignName{"attn.v_proj.linear.weight", "att.value.weight"},
    ForeignName{"attn.g_proj.linear.weight", "att.gate.weight"},
    ForeignName{"ffn.key.mu", "ffn.time_maa_k", Vector},
    ForeignName{"ffn.key.linear.weight", "ffn.key.weight"},
    ForeignName{"ffn.receptance.mu", "ffn.time_maa_r", Vector},
    ForeignName{"ffn.receptance.linear.weight", "ffn.receptance.weight"},
};

// web-rwkv's converter renames; which way its small matrices lie is found from their sizes.
constexpr std::array kWebRwkv6 = {
    ForeignName{"att.time_first", "att.time_faaaa"},
    ForeignName{"att.time_mix_x", "att.time_maa_x"},
    ForeignName{"att.time_mix_w", "att.time_maa_w"},
    ForeignName{"att.time_mix_k", "att.time_maa_k"},
    ForeignName{"att.time_mix_v", "att.time_maa_v"},
    ForeignName{"att.time_mix_r", "att.time_maa_r"},
    ForeignName{"att.time_mix_g", "att.time_maa_g"},
    ForeignName{"att.time_mix_w1", "att.time_maa_w1"},
    ForeignName{"att.time_mix_w2", "att.time_maa_w2"},
    ForeignName{"ffn.time_mix_k", "ffn.time_maa_k"},
    ForeignName{"ffn.time_mix_r", "ffn.time_maa_r"},
};

// BlinkDL's names for the body, the head as transformers calls it.
constexpr std::array kHeadOnly = {ForeignName{"lm_head.weight", "head.weight"}};

constexpr std::array kDialects = {
    Dialect{"flash-linear-attention RWKV-7", "model.", "layers.", "attn.r_k", kFlaOutside, kFla7,
            kFlaBoth},
    Dialect{"flash-linear-attention RWKV-6", "model.", "layers.", "attn.x_proj.0.mu", kFlaOutside,
            kFla6, kFlaBoth},
    Dialect{"Hugging Face RWKV-6", "rwkv.", "blocks.", "attention.time_maa_x", kHuggingFaceOutside,
            kHuggingFace},
    Dialect{"Hugging Face RWKV-5", "rwkv.", "blocks.", "attention.ln_x.weight", kHuggingFaceOutside,
            kHuggingFace},
    Dialect{"Hugging Face RWKV-4", "rwkv.", "blocks.", "attention.time_decay", kHuggingFaceOutside,
            kHuggingFace},
    Dialect{"web-rwkv RWKV-6", "", "blocks.", "att.time_mix_w1", {}, kWebRwkv6},
    Dialect{"Hugging Face RWKV-7", "model.", "blocks.", "att.r_k", kHeadOnly, {}},
};

}  // namespace

std::span<const Dialect> dialects() {
  return kDialects;
}

const ForeignName* find_foreign(const Dialect& dialect, bool is_in_block, std::string_view theirs) {
  const std::span<const ForeignName> outside[] = {dialect.outside, {}};
  const std::span<const ForeignName> inside[] = {dialect.inside, dialect.shared};
  for (const std::span<const ForeignName> rows : is_in_block ? inside : outside) {
    for (const ForeignName& row : rows) {
      if (row.theirs == theirs) {
        return &row;
      }
    }
  }
  return nullptr;
}

}  // namespace rwkv
