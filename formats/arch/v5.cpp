// RWKV-5 in its three steps: v5.0 (heads, group norm), v5.1 (+ gate), v5.2 (decay per channel).
// RWKV-Lite's x058 and x059 are v5.2 with factor pairs for projections (see identify.cpp).
#include "formats/arch/versions.h"

namespace rwkv {
namespace {

using enum Dim;
constexpr Dim kNo = Dim::None;
constexpr auto kModel = Where::Model;
constexpr auto kBlock = Where::EveryBlock;

constexpr auto kAsIs = Layout::AsIs;
constexpr auto kOr = Presence::Alternative;
constexpr VersionSet kPerHead = only(Version::V5_0) | only(Version::V5_1);
constexpr VersionSet kPerChannel = only(Version::V5_2);
constexpr VersionSet kGated = only(Version::V5_1) | only(Version::V5_2);

constexpr TensorSpec kTensors[] = {
    {"emb.weight", kModel, Role::Embedding, {Vocab, Embd, kNo}},
    {"ln0.weight", Where::FirstBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln0.bias", Where::FirstBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln1.weight", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln1.bias", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_mix_k", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_mix_v", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_mix_r", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_mix_g", kBlock, Role::Vector, {Embd, kNo, kNo}, kAsIs, kGated},
    {"att.time_decay", kBlock, Role::Vector, {Head, kNo, kNo}, kAsIs, kPerHead},
    {"att.time_decay", kBlock, Role::Vector, {Head, HeadSize, kNo}, kAsIs, kPerChannel},
    {"att.time_faaaa", kBlock, Role::Vector, {Head, kNo, kNo}, kAsIs, kPerHead, kOr},
    {"att.time_first", kBlock, Role::Vector, {Head, kNo, kNo}, kAsIs, kPerHead},
    {"att.time_faaaa", kBlock, Role::Vector, {Head, HeadSize, kNo}, kAsIs, kPerChannel, kOr},
    {"att.time_first", kBlock, Role::Vector, {Head, HeadSize, kNo}, kAsIs, kPerChannel},
    {"att.time_state",
     kBlock,
     Role::InitialState,
     {Head, HeadSize, HeadSize},
     Layout::Transposed,
     kPerChannel,
     Presence::Optional},
    {"att.key.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.value.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.receptance.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.gate.weight", kBlock, Role::Projection, {Att, Embd, kNo}, kAsIs, kGated},
    {"att.output.weight", kBlock, Role::Projection, {Embd, Att, kNo}},
    {"att.ln_x.weight", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.ln_x.bias", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"ln2.weight", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ln2.bias", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.time_mix_k", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.time_mix_r", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"ffn.receptance.weight", kBlock, Role::Projection, {Embd, Embd, kNo}},
    {"ffn.key.weight", kBlock, Role::FfnKey, {Ffn, Embd, kNo}},
    {"ffn.value.weight", kBlock, Role::FfnValue, {Embd, Ffn, kNo}, Layout::Transposed},
    {"ln_out.weight", kModel, Role::Vector, {Embd, kNo, kNo}},
    {"ln_out.bias", kModel, Role::Vector, {Embd, kNo, kNo}},
    {"head.weight", kModel, Role::Head, {Vocab, Embd, kNo}},
};

}  // namespace

std::span<const TensorSpec> tensors_v5() {
  return kTensors;
}

}  // namespace rwkv
