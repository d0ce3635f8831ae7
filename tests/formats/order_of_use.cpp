// The order in which tensors are used, and lie in files and in memory.
#include "formats/arch/order_of_use.h"

#include <algorithm>
#include <random>

#include "tests/formats/tensor_lists.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Infos = std::vector<TensorInfo>;
using Names = std::vector<std::string>;

// Of matrices: what lies between them is small.
Names matrices_in_order(Infos tensors, const std::string& prefix) {
  std::mt19937 random(7);
  std::shuffle(tensors.begin(), tensors.end(), random);
  const auto model = identify(tensors, ShapesAre::AsInCheckpoint);
  REQUIRE_OK(model.status());
  Names names;
  for (const TensorBinding& binding : model.value().tensors) {
    if (binding.name.starts_with(prefix) && binding.role != Role::Vector) {
      names.push_back(binding.name.substr(prefix.size()));
    }
  }
  return names;
}

void add_predictor(Infos& tensors, const test::ModelSizes& sizes) {
  const uint64_t hidden = 9;
  for (uint64_t i = 0; i < sizes.n_layer; ++i) {
    const std::string stem = fmt::format("blocks.{}.ffn.predictor.", i);
    tensors.push_back({stem + "bias", DType::F32, {sizes.n_embd}});
    tensors.push_back({stem + "threshold", DType::F32, {2}});
    tensors.push_back({stem + "fc2.weight", DType::F32, {sizes.dim_ffn, hidden}});
    tensors.push_back({stem + "fc1.weight", DType::F32, {hidden, sizes.n_embd}});
    tensors.push_back({stem + "sign.weight", DType::F32, {sizes.dim_ffn, sizes.n_embd}});
  }
}

}  // namespace

TEST_CASE("What one job multiplies lies side by side") {
  test::ModelSizes sizes;
  sizes.n_embd = sizes.dim_att();
  Infos lite = test::rwkv_lite_tensors(sizes, LowRankForm::ReluSquared);
  add_predictor(lite, sizes);
  CHECK(matrices_in_order(lite, "blocks.1.") ==
        Names{"att.key1.weight", "att.value1.weight", "att.receptance1.weight", "att.gate1.weight",
              "att.key2.weight", "att.value2.weight", "att.receptance2.weight", "att.gate2.weight",
              "att.output.weight", "ffn.predictor.sign.weight", "ffn.predictor.fc1.weight",
              "ffn.receptance1.weight", "ffn.predictor.fc2.weight", "ffn.receptance2.weight",
              "ffn.key.weight", "ffn.value.weight"});
  CHECK(matrices_in_order(test::tensors_of(Version::V7, sizes), "blocks.1.") ==
        Names{"att.key.weight", "att.value.weight", "att.receptance.weight", "att.w1", "att.a1",
              "att.g1", "att.v1", "att.w2", "att.a2", "att.g2", "att.v2", "att.output.weight",
              "ffn.key.weight", "ffn.value.weight"});
  CHECK(matrices_in_order(test::tensors_of(Version::V6, sizes), "blocks.1.") ==
        Names{"att.time_maa_w1", "att.time_maa_w2", "att.key.weight", "att.value.weight",
              "att.receptance.weight", "att.gate.weight", "att.time_decay_w1", "att.time_decay_w2",
              "att.output.weight", "ffn.receptance.weight", "ffn.key.weight", "ffn.value.weight"});
}

TEST_CASE("Every tensor of every version has its place in the order of use") {
  for (const VersionTraits& version : kVersions) {
    test::ModelSizes sizes;
    Infos tensors = test::tensors_of(version.version, sizes);
    add_predictor(tensors, sizes);
    const auto model = identify(tensors, ShapesAre::AsInCheckpoint);
    REQUIRE_OK(model.status());
    const auto& all = model.value().tensors;
    CHECK(all.front().name == "emb.weight");
    CHECK(all.back().name == "head.weight");
    for (const TensorBinding& binding : all) {
      TensorBinding other = binding;
      other.role = Role::Vector;
      other.name =
          binding.block < 0 ? "unheard.of" : fmt::format("blocks.{}.unheard.of", binding.block);
      INFO(version.name << ": " << binding.name);
      CHECK(is_used_before(binding, other));
    }
  }
}

}  // namespace rwkv
