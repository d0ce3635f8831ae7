// RWKV-7 "Goose", and v7a with DeepEmbed: generalised delta rule. Small matrices are stored [in,
// out] and packed transposed; the value residual (v0, v1, v2) does not exist in the first block, or
// is ignored there. In v7a a matrix of each token, s_emb, decides with s1 and s2 how much each
// neuron counts.
#include "formats/arch/versions.h"

namespace rwkv {
namespace {

using enum Dim;
constexpr Dim kNo = Dim::None;
constexpr auto kModel = Where::Model;
constexpr auto kBlock = Where::EveryBlock;

constexpr auto kLater = Where::LaterBlocks;
constexpr VersionSet kDeepEmbed = only(Version::V7a);

constexpr TensorSpec kTensors[] = {
    {"emb.weight", kModel, Role::Embedding, {Vocab, Embd, kNo}},
    {"ln0.weight", Where::FirstBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln0.bias", Where::FirstBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln1.weight", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln1.bias", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.x_r", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.x_w", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.x_k", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.x_v", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.x_a", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.x_g", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.w0", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.w1", kBlock, Role::Lora, {Embd, DecayLora, kNo}, Layout::Transposed},
    {"att.w2", kBlock, Role::Lora, {DecayLora, Att, kNo}, Layout::Transposed},
    {"att.a0", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.a1", kBlock, Role::Lora, {Embd, IclrLora, kNo}, Layout::Transposed},
    {"att.a2", kBlock, Role::Lora, {IclrLora, Att, kNo}, Layout::Transposed},
    {"att.v0", kLater, Role::Vector, {Att, kNo, kNo}},
    {"att.v1", kLater, Role::Lora, {Embd, ValueLora, kNo}, Layout::Transposed},
    {"att.v2", kLater, Role::Lora, {ValueLora, Att, kNo}, Layout::Transposed},
    {"att.g1", kBlock, Role::Lora, {Embd, GateLora, kNo}, Layout::Transposed},
    {"att.g2", kBlock, Role::Lora, {GateLora, Att, kNo}, Layout::Transposed},
    {"att.k_k", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.k_a", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.r_k", kBlock, Role::Vector, {Head, HeadSize, kNo}},
    {"att.time_state",
     kBlock,
     Role::InitialState,
     {Head, HeadSize, HeadSize},
     Layout::AsIs,
     kAllVersions,
     Presence::Optional},
    {"att.receptance.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.key.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.value.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.output.weight", kBlock, Role::Projection, {Embd, Att, kNo}},
    {"att.ln_x.weight", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.ln_x.bias", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"ln2.weight", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln2.bias", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.x_k", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.s1", kBlock, Role::Lora, {Embd, DeepEmbed, kNo}, Layout::Transposed, kDeepEmbed},
    {"ffn.s2", kBlock, Role::Lora, {DeepEmbed, Ffn, kNo}, Layout::Transposed, kDeepEmbed},
    {"ffn.s0", kBlock, Role::Vector, {Ffn, kNo, kNo}, Layout::AsIs, kDeepEmbed},
    {"ffn.s_emb_x.weight",
     kBlock,
     Role::Projection,
     {DeepEmbed2, Embd, kNo},
     Layout::AsIs,
     kDeepEmbed},
    {"ffn.s_emb.weight",
     kBlock,
     Role::TokenRows,
     {Vocab, DeepEmbed2, kNo},
     Layout::AsIs,
     kDeepEmbed},
    {"ffn.key.weight", kBlock, Role::FfnKey, {Ffn, Embd, kNo}},
    {"ffn.value.weight", kBlock, Role::FfnValue, {Embd, Ffn, kNo}, Layout::Transposed},
    {"ln_out.weight", kModel, Role::Vector, {Embd, kNo, kNo}},
    {"ln_out.bias", kModel, Role::Vector, {Embd, kNo, kNo}},
    {"head.weight", kModel, Role::Head, {Vocab, Embd, kNo}},
};

}  // namespace

std::span<const TensorSpec> tensors_v7() {
  return kTensors;
}

}  // namespace rwkv
