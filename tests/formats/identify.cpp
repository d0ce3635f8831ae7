// identify() on models that are whole: every version, in any order, in every shape that files in
// the field have, from checkpoints and from packed files.
#include "formats/arch/identify.h"

#include <algorithm>
#include <random>
#include <set>

#include "tests/formats/tensor_lists.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using test::Diagonal;
using test::ModelSizes;
using Shape = std::vector<uint64_t>;
using Infos = std::vector<TensorInfo>;

// All that a config says, comparable and printable.
std::string text_of(const ModelConfig& config) {
  GgufMetadata metadata;
  config_to_metadata(config, metadata);
  std::string text;
  for (const auto& [key, value] : metadata.entries()) {
    text += fmt::format("{}={}\n", key, value_to_string(value));
  }
  return text;
}

Identified identified(const Infos& tensors, ShapesAre shapes = ShapesAre::AsInCheckpoint) {
  auto found = identify(tensors, shapes);
  REQUIRE_OK(found.status());
  // What holds for every model: each tensor is bound once, under its own name.
  std::set<size_t> sources;
  for (const TensorBinding& binding : found.value().tensors) {
    REQUIRE(sources.insert(binding.source).second);
    REQUIRE(binding.name == tensors[binding.source].name);
    REQUIRE(binding.packed_rows() * binding.packed_cols() == tensors[binding.source].n_elements());
  }
  REQUIRE(sources.size() == tensors.size());
  return found.take();
}

// Models with unlike sizes; a single head; a single layer; the sizes of World models.
std::vector<ModelSizes> many_sizes() {
  std::vector<ModelSizes> all(5);
  all[1].n_head = 1;
  all[1].head_size = 26;
  all[2].n_layer = 1;
  all[2].head_size = 64;
  all[2].n_embd = 128;
  all[3].n_head = 7;
  all[3].head_size = 3;
  all[3].n_embd = 21;
  all[3].dim_ffn = 84;
  all[4] = {24, 65536, 2048, 7168, 32, 64, 32, 64, 96, 128, 256};
  return all;
}

Infos shuffled(Infos tensors, uint64_t seed) {
  std::shuffle(tensors.begin(), tensors.end(), std::mt19937_64(seed));
  return tensors;
}

const TensorBinding& binding_of(const Identified& model, std::string_view name) {
  const auto found =
      std::find_if(model.tensors.begin(), model.tensors.end(),
                   [&](const TensorBinding& binding) { return binding.name == name; });
  REQUIRE(found != model.tensors.end());
  return *found;
}

}  // namespace

TEST_CASE("identify finds the version and all sizes of every version") {
  for (const VersionTraits& version : kVersions) {
    for (const ModelSizes& sizes : many_sizes()) {
      for (const bool alternatives : {false, true}) {
        INFO(version.name << " with " << sizes.n_head << " heads of " << sizes.head_size);
        const Infos tensors =
            test::tensors_of(version.version, sizes, {.time_first = alternatives});
        const Identified model = identified(tensors);
        REQUIRE(text_of(model.config) == text_of(test::expected_config(version.version, sizes)));
        REQUIRE(version_label(model.config) == version.name);
      }
    }
  }
}

TEST_CASE("identify does not depend on the order of the tensors") {
  for (const VersionTraits& version : kVersions) {
    const Infos tensors = test::tensors_of(version.version, {});
    const Identified model = identified(tensors);
    for (uint64_t seed = 0; seed < 10; ++seed) {
      const Identified other = identified(shuffled(tensors, seed));
      REQUIRE(text_of(other.config) == text_of(model.config));
      REQUIRE(other.tensors.size() == model.tensors.size());
      for (size_t i = 0; i < model.tensors.size(); ++i) {
        REQUIRE(other.tensors[i].name == model.tensors[i].name);
        REQUIRE(other.tensors[i].shape == model.tensors[i].shape);
      }
    }
  }
}

TEST_CASE("identify lists tensors in the order of a forward pass") {
  for (const VersionTraits& version : kVersions) {
    const Identified model = identified(shuffled(test::tensors_of(version.version, {}), 1));
    REQUIRE(model.tensors.front().name == "emb.weight");
    REQUIRE(model.tensors.front().role == Role::Embedding);
    REQUIRE(model.tensors.back().name == "head.weight");
    REQUIRE(model.tensors.back().role == Role::Head);
    // After the embedding, the other tables of tokens.
    size_t first = 1;
    while (model.tensors[first].role == Role::TokenRows) {
      ++first;
    }
    int64_t block = 0;
    for (size_t i = first; i + 3 < model.tensors.size(); ++i) {
      REQUIRE(model.tensors[i].block >= block);
      block = model.tensors[i].block;
    }
    REQUIRE(block == 2);
  }
}

TEST_CASE("identify takes shapes as packed, and gives them as BlinkDL stores them") {
  for (const VersionTraits& version : kVersions) {
    for (const ModelSizes& sizes : many_sizes()) {
      INFO(version.name);
      const Identified model = identified(test::tensors_of(version.version, sizes));
      const Infos packed =
          test::tensors_of(version.version, sizes, {.shapes = ShapesAre::AsPacked});
      const Identified from_packed = identified(packed, ShapesAre::AsPacked);
      REQUIRE(text_of(from_packed.config) == text_of(model.config));
      for (const TensorBinding& binding : from_packed.tensors) {
        REQUIRE(binding.shape == binding_of(model, binding.name).shape);
        REQUIRE(binding.packed_cols() == packed[binding.source].shape.back());
      }
    }
  }
}

TEST_CASE("identify: matrices that are packed transposed are those of the tables") {
  const auto layout = [](Version version, const char* name) {
    return binding_of(identified(test::tensors_of(version, {})), name);
  };
  const TensorBinding value = layout(Version::V4, "blocks.1.ffn.value.weight");
  REQUIRE(value.layout == Layout::Transposed);
  REQUIRE(value.shape == Shape{26, 67});
  REQUIRE(value.packed_rows() == 67);
  REQUIRE(value.packed_cols() == 26);
  const TensorBinding mix = layout(Version::V6, "blocks.0.att.time_maa_w2");
  REQUIRE(mix.shape == Shape{5, 3, 26});
  REQUIRE(mix.packed_rows() == 5 * 26);
  REQUIRE(mix.packed_cols() == 3);
  REQUIRE(layout(Version::V7, "blocks.1.att.w1").packed_cols() == 26);
  REQUIRE(layout(Version::V7, "blocks.1.ffn.key.weight").layout == Layout::AsIs);
}

TEST_CASE("identify accepts vectors as [D], [1,D], [1,1,D] and [D,1]") {
  for (const VersionTraits& version : kVersions) {
    const ModelSizes sizes;
    const Infos plain = test::tensors_of(version.version, sizes);
    const Identified model = identified(plain);
    for (const int form : {0, 1, 2}) {
      Infos tensors = plain;
      for (const TensorBinding& binding : model.tensors) {
        Shape& shape = tensors[binding.source].shape;
        if (binding.role != Role::Vector || shape.size() != 1) {
          continue;
        }
        const Shape forms[] = {{1, shape[0]}, {1, 1, shape[0]}, {shape[0], 1}};
        shape = forms[form];
      }
      INFO(version.name << ", form " << form);
      const Identified other = identified(tensors);
      REQUIRE(text_of(other.config) == text_of(model.config));
      for (const TensorBinding& binding : other.tensors) {
        REQUIRE(binding.shape == binding_of(model, binding.name).shape);
      }
    }
  }
}

TEST_CASE("identify accepts the shapes of decay and bonus that files in the field have") {
  const Version version =
      GENERATE(Version::V5_0, Version::V5_1, Version::V5_2, Version::V6, Version::V7);
  ModelSizes sizes;
  sizes.n_head = GENERATE(1u, 2u, 7u);
  const bool per_head = version == Version::V5_0 || version == Version::V5_1;
  const uint64_t h = sizes.n_head;
  const uint64_t n = sizes.head_size;
  const std::vector<Shape> forms =
      per_head ? std::vector<Shape>{{h}, {h, 1}, {h, 1, 1}} : std::vector<Shape>{{h, n}, {h, n, 1}};
  for (const Shape& form : forms) {
    Infos tensors = test::tensors_of(version, sizes);
    for (uint64_t block = 0; block < sizes.n_layer; ++block) {
      for (const char* name : {"time_decay", "time_faaaa", "r_k"}) {
        TensorInfo* tensor =
            test::find_tensor(tensors, fmt::format("blocks.{}.att.{}", block, name));
        // v6 and v7 keep the decay as one vector.
        if (tensor && !(version == Version::V6 && tensor->shape.size() == 1)) {
          tensor->shape = form;
        }
      }
    }
    INFO(version_traits(version).name << ", " << h << " heads, " << shape_to_string(form));
    REQUIRE(text_of(identified(tensors).config) == text_of(test::expected_config(version, sizes)));
  }
}

TEST_CASE("identify v7: the value residual of block 0 may be missing, and is ignored") {
  const ModelSizes sizes;
  const Identified without = identified(test::tensors_of(Version::V7, sizes));
  const Identified with =
      identified(test::tensors_of(Version::V7, sizes, {.first_block_values = true}));
  REQUIRE(with.tensors.size() == without.tensors.size() + 3);
  REQUIRE(text_of(with.config) == text_of(without.config));
  for (const char* name : {"blocks.0.att.v0", "blocks.0.att.v1", "blocks.0.att.v2"}) {
    REQUIRE(binding_of(with, name).role == Role::Ignored);
    REQUIRE(binding_of(with, name).layout == Layout::AsIs);
  }
  REQUIRE(binding_of(with, "blocks.1.att.v1").role == Role::Lora);
}

TEST_CASE("identify: factor pairs of RWKV-Lite") {
  const auto form = GENERATE(LowRankForm::Linear, LowRankForm::ReluSquared);
  ModelSizes sizes;
  sizes.head_size = 13;  // a diagonal needs a square projection
  const Infos tensors = test::rwkv_lite_tensors(sizes, form);
  const Identified model = identified(shuffled(tensors, 3));
  ModelConfig expected = test::expected_config(Version::V5_2, sizes);
  expected.low_rank = form;
  REQUIRE(text_of(model.config) == text_of(expected));
  REQUIRE(version_label(model.config) == (form == LowRankForm::Linear ? "x058" : "x059"));
  REQUIRE(text_of(identified(tensors).config) == text_of(expected));

  const TensorBinding& a = binding_of(model, "blocks.2.att.key1.weight");
  REQUIRE(a.part == Part::FactorA);
  REQUIRE(a.role == Role::Projection);
  REQUIRE(a.shape == Shape{9, 26});
  const TensorBinding& b = binding_of(model, "blocks.2.att.key2.weight");
  REQUIRE(b.part == Part::FactorB);
  REQUIRE(b.shape == Shape{26, 9});
  REQUIRE(binding_of(model, "blocks.2.att.output.weight").part == Part::Dense);
  if (form == LowRankForm::ReluSquared) {
    REQUIRE(binding_of(model, "blocks.2.ffn.receptance_diag").part == Part::Diagonal);
  }
}

TEST_CASE("identify: any version may have factor pairs, in some of its projections") {
  for (const VersionTraits& version : kVersions) {
    INFO(version.name);
    Infos tensors = test::tensors_of(version.version, {});
    test::replace_by_pair(tensors, "blocks.1.att.key", 4, Diagonal::No);
    REQUIRE(identified(tensors).config.low_rank == LowRankForm::Linear);
  }
}

TEST_CASE("identify keeps extra tensors of RWKV-Lite's files as ignored") {
  Infos tensors = test::rwkv_lite_tensors({}, LowRankForm::Linear);
  tensors.push_back({"head_l1.weight", DType::F32, {5, 26}});
  tensors.push_back({"blocks.1.mlp.fc1.weight", DType::F32, {4, 26}});
  const Identified model = identified(tensors);
  REQUIRE(binding_of(model, "head_l1.weight").role == Role::Ignored);
  REQUIRE(binding_of(model, "blocks.1.mlp.fc1.weight").role == Role::Ignored);
  REQUIRE(binding_of(model, "blocks.1.mlp.fc1.weight").block == 1);
}

TEST_CASE("ModelConfig goes through metadata and back") {
  for (const VersionTraits& version : kVersions) {
    ModelConfig config = test::expected_config(version.version, {});
    config.low_rank = LowRankForm::ReluSquared;
    GgufMetadata metadata;
    config_to_metadata(config, metadata);
    const auto back = config_from_metadata(metadata);
    REQUIRE_OK(back.status());
    REQUIRE(text_of(back.value()) == text_of(config));
    REQUIRE(back.value().state_floats() == config.state_floats());

    for (const auto& [key, value] : metadata.entries()) {
      GgufMetadata wrong = metadata;
      wrong.set(key, GgufValue::strings({"of another type"}));
      const Status status = config_from_metadata(wrong).status();
      INFO(key << ": " << status.message());
      REQUIRE(status.code() == Code::BadInput);
      REQUIRE_THAT(status.message(), Catch::Contains(key));
    }
  }
  GgufMetadata metadata;
  config_to_metadata({}, metadata);
  for (const float eps : {0.0f, -1.0f, 1.0f, std::nanf("")}) {
    metadata.set("rwkv.group_norm_eps", GgufValue::f32(eps));
    REQUIRE(config_from_metadata(metadata).status().code() == Code::BadInput);
  }
  metadata.set("rwkv.version", GgufValue::string("v8"));
  REQUIRE_THAT(config_from_metadata(metadata).status().message(), Catch::Contains("'v8'"));
}

TEST_CASE("Version and role tables stand in the order of their enums") {
  for (const VersionTraits& version : kVersions) {
    REQUIRE(&version_traits(version.version) == &version);
    REQUIRE(find_version(version.name) == &version);
  }
  REQUIRE(find_version("v5.3") == nullptr);
  for (const Role role :
       {Role::Vector, Role::Lora, Role::Projection, Role::FfnKey, Role::FfnValue, Role::Embedding,
        Role::Head, Role::Predictor, Role::SignBits, Role::ClusterHead, Role::Ignored}) {
    REQUIRE(role_traits(role).role == role);
  }
}

}  // namespace rwkv
