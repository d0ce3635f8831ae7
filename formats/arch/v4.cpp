// RWKV-4: scalar recurrence per channel, no group norm, no heads.
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
    {"att.time_mix_k", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_mix_v", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_mix_r", kBlock, Role::Vector, {Embd, kNo, kNo}},
    {"att.time_decay", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.time_first", kBlock, Role::Vector, {Att, kNo, kNo}},
    {"att.key.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.value.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.receptance.weight", kBlock, Role::Projection, {Att, Embd, kNo}},
    {"att.output.weight", kBlock, Role::Projection, {Embd, Att, kNo}},
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

std::span<const TensorSpec> tensors_v4() {
  return kTensors;
}

}  // namespace rwkv
