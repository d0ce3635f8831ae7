#include "formats/arch/tensor_spec.h"

namespace rwkv {
namespace {

constexpr RoleTraits kRoles[] = {
    {Role::Vector, "vector", 0, Access::EveryToken},
    {Role::Lora, "lora", 0, Access::EveryToken},
    {Role::Projection, "projection", kQuantize | kLowRank, Access::EveryToken},
    {Role::FfnKey, "ffn_key", kQuantize, Access::NamedNeurons},
    {Role::FfnValue, "ffn_value", kQuantize, Access::NamedNeurons},
    {Role::Embedding, "embedding", kQuantize, Access::OneRow},
    {Role::Head, "head", kQuantize, Access::ChosenClusters},
    {Role::Predictor, "predictor", kQuantize, Access::EveryToken},
    {Role::SignBits, "sign_bits", 0, Access::EveryToken},
    {Role::ClusterHead, "cluster_head", kQuantize, Access::EveryToken},
    {Role::TokenRows, "token_rows", kQuantize, Access::OneRow},
    {Role::InitialState, "initial_state", 0, Access::Never},
    {Role::Ignored, "ignored", 0, Access::Never},
};

}  // namespace

const RoleTraits& role_traits(Role role) {
  return kRoles[static_cast<size_t>(role)];
}

}  // namespace rwkv
