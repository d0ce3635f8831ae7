// RWKV-6 "Finch": mixing and decay depend on the data, through the small *_w1/_w2 matrices, which
// are stored [in, out] and packed transposed. A tuned state is [head][value][key] in a checkpoint
// and packed as the runtime keeps it, [head][key][value].
#include "formats/arch/versions.h"

namespace rwkv {
namespace {

using enum Dim;
constexpr Dim kNo = Dim::None;
constexpr auto kModel = Where::Model;
constexpr auto kBlock = Where::EveryBlock;

constexpr TensorSpec kTensors[] = {
    {"emb.weight", kModel, Role::Embedding, {Vocab, Embd, kNo}},
    {"ln0.weight", Where::FirstBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln0.bias", Where::FirstBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln1.weight", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln1.bias", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_maa_x", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_maa_w", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_maa_k", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_maa_v", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_maa_r", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_maa_g", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_maa_w1", kBlock, Role::Lora, {Embd, MixLora5, kNo}, Layout::Transposed},
    {"att.time_maa_w2", kBlock, Role::Lora, {Five, MixLora, Embd}, Layout::Transposed},
    {"att.time_decay", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.time_decay_w1", kBlock, Role::Lora, {Embd, DecayLora, kNo}, Layout::Transposed},
    {"att.time_decay_w2", kBlock, Role::Lora, {DecayLora, Att, kNo}, Layout::Transposed},
    {"att.time_faaaa", kBlock, Role::Vector, {Head, HeadSize, kNo}},
    {"att.time_state",
     kBlock,
     Role::InitialState,
     {Head, HeadSize, HeadSize},
     Layout::Transposed,
     kAllVersions,
     Presence::Optional},
    {"att.key.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.value.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.receptance.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.gate.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.output.weight", kBlock, Role::Projection, {Embd, Att, kNo}},
    {"att.ln_x.weight", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.ln_x.bias", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"ln2.weight", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln2.bias", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.time_maa_k", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.time_maa_r", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.receptance.weight", kBlock, Role::Projection, {Embd, Embd, kNo}},
    {"ffn.key.weight", kBlock, Role::FfnKey, {Ffn, Embd, kNo}},
    {"ffn.value.weight", kBlock, Role::FfnValue, {Embd, Ffn, kNo}, Layout::Transposed},
    {"ln_out.weight", kModel, Role::Vector, {Embd, kNo, kNo}},
    {"ln_out.bias", kModel, Role::Vector, {Embd, kNo, kNo}},
    {"head.weight", kModel, Role::Head, {Vocab, Embd, kNo}},
};

}  // namespace

std::span<const TensorSpec> tensors_v6() {
  return kTensors;
}

}  // namespace rwkv
