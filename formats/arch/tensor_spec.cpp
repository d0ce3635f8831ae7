#include "formats/arch/tensor_spec.h"

namespace rwkv {
namespace {

constexpr RoleTraits kRoles[] = {
    {Role::Vector, "vector", 0},
    {Role::Lora, "lora", 0},
    {Role::Projection, "projection", kQuantize | kLowRank},
    {Role::FfnKey, "ffn_key", kQuantize | kSparseFfn},
    {Role::FfnValue, "ffn_value", kQuantize | kSparseFfn},
    {Role::Embedding, "embedding", kQuantize | kRowsOnDemand},
    {Role::Head, "head", kQuantize | kClusterHead},
    {Role::Predictor, "predictor", kQuantize},
    {Role::SignBits, "sign_bits", 0},
    {Role::ClusterHead, "cluster_head", kQuantize},
    {Role::Ignored, "ignored", 0},
};

}  // namespace

const RoleTraits& role_traits(Role role) {
  return kRoles[static_cast<size_t>(role)];
}

}  // namespace rwkv
