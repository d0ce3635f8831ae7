// identify() on models that almost fit: what is missing, too much, or of the wrong shape is named
// with its shape and the expected one.
#include <random>

#include "tests/formats/tensor_lists.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv {
namespace {

using Catch::Contains;
using test::Diagonal;
using test::find_tensor;
using Infos = std::vector<TensorInfo>;

std::string refused(const Infos& tensors, ShapesAre shapes = ShapesAre::AsInCheckpoint) {
  const auto found = identify(tensors, shapes);
  if (found.ok()) {
    FAIL("accepted as " << describe(found.value().config));
  }
  REQUIRE(found.status().code() == Code::BadInput);
  INFO(found.status().message());
  CHECK(test::says_what_to_do(found.status().message()));
  return found.status().message();
}

// Names that decide the version: without them another one is looked for, so the message may name
// another tensor, but there must be one.
bool decides_version(std::string_view name) {
  for (const char* key : {"r_k", "time_maa_x", "time_maa_w1", "ln_x.weight", "gate.weight",
                          "time_decay", "time_faaaa"}) {
    if (name.starts_with("blocks.0.") && name.ends_with(key)) {
      return true;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("Versions that are not supported are named") {
  const std::pair<const char*, const char*> cases[] = {
      {"blocks.1.qkv.qq.weight", "v7b (DeepEmbed with DEA"},
      {"blocks.0.ffn.enn.weight", "RWKV-8 (DeepEmbed"},
      {"blocks.0.rosa.x_q", "RWKV-8 (ROSA"}};
  for (const auto& [name, what] : cases) {
    Infos tensors = test::tensors_of(Version::V7a, {});
    tensors.push_back({name, DType::F32, {4, 4}});
    CHECK_THAT(refused(tensors), Contains(name) && Contains(what) && Contains("v4 to v7 or v7a"));
  }
}

TEST_CASE("A tuned state must be of the model's heads") {
  for (const Version version : {Version::V5_2, Version::V6, Version::V7, Version::V7a}) {
    Infos tensors = test::tensors_of(version, {});
    const auto config = identify(tensors, ShapesAre::AsInCheckpoint).value().config;
    const std::vector<uint64_t> shape = {config.n_head, config.head_size, config.head_size};
    tensors.push_back({"blocks.1.att.time_state", DType::F32, shape});
    CHECK(identify(tensors, ShapesAre::AsInCheckpoint).ok());
    tensors.back().shape[0] += 1;
    CHECK_THAT(refused(tensors), Contains("blocks.1.att.time_state") &&
                                     Contains(shape_to_string(tensors.back().shape)));
  }
  Infos old = test::tensors_of(Version::V4, {});
  old.push_back({"blocks.1.att.time_state", DType::F32, {2, 4, 4}});
  CHECK_THAT(refused(old), Contains("time_state") && Contains("v4"));
}

TEST_CASE("identify refuses a model that lacks any one of its tensors") {
  for (const VersionTraits& version : kVersions) {
    const Infos whole = test::tensors_of(version.version, {});
    for (size_t i = 0; i < whole.size(); ++i) {
      Infos tensors = whole;
      tensors.erase(tensors.begin() + static_cast<ptrdiff_t>(i));
      INFO(version.name << " without " << whole[i].name);
      const std::string message = refused(tensors);
      if (!decides_version(whole[i].name)) {
        REQUIRE_THAT(message, Contains("'" + whole[i].name + "' is missing"));
      }
    }
  }
}

TEST_CASE("identify refuses any tensor of a wrong shape, and names both shapes") {
  for (const VersionTraits& version : kVersions) {
    const Infos whole = test::tensors_of(version.version, {});
    for (size_t i = 0; i < whole.size(); ++i) {
      for (size_t dim = 0; dim < whole[i].shape.size(); ++dim) {
        Infos tensors = whole;
        tensors[i].shape[dim] += 1;
        INFO(version.name << ": " << tensors[i].name << " " << shape_to_string(tensors[i].shape));
        const std::string message = refused(tensors);
        // A tensor that binds a symbol is believed, and the next one with the symbol is named.
        REQUIRE_THAT(message, Contains("has shape"));
        if (tensors[i].name.starts_with("blocks.2.")) {
          REQUIRE_THAT(message, Contains("'" + tensors[i].name + "'") &&
                                    Contains(shape_to_string(tensors[i].shape)) &&
                                    Contains(shape_to_string(whole[i].shape)));
        }
      }
    }
  }
}

TEST_CASE("identify refuses more clusters of the vocabulary than there may be") {
  test::ModelSizes sizes;
  sizes.n_vocab = kMostClusters + 1;
  Infos tensors = test::tensors_of(Version::V5_2, sizes);
  const auto add_clusters = [&](uint64_t n) {
    tensors.push_back({"head.tokens", DType::F32, {sizes.n_vocab}});
    tensors.push_back({"head.cluster.first", DType::F32, {n}});
    tensors.push_back({"head.cluster.weight", DType::F32, {n, sizes.n_embd}});
    tensors.push_back({"head.cluster.bias", DType::F32, {n}});
  };
  const Infos without = tensors;
  add_clusters(kMostClusters);
  REQUIRE_OK(identify(tensors, ShapesAre::AsInCheckpoint).status());
  tensors = without;
  add_clusters(kMostClusters + 1);
  REQUIRE_THAT(refused(tensors), Contains("65536 clusters"));
}

TEST_CASE("identify refuses matrices that are transposed, flat or of another rank") {
  for (const VersionTraits& version : kVersions) {
    const Infos whole = test::tensors_of(version.version, {});
    for (size_t i = 0; i < whole.size(); ++i) {
      if (whole[i].shape.size() < 2 || whole[i].name.ends_with("time_decay") ||
          whole[i].name.ends_with("time_faaaa") || whole[i].name.ends_with("r_k")) {
        continue;  // vectors, where a flat one will do
      }
      Infos tensors = whole;
      INFO(version.name << ": " << tensors[i].name);
      tensors[i].shape = {whole[i].n_elements()};
      refused(tensors);
      tensors[i].shape = whole[i].shape;
      tensors[i].shape.insert(tensors[i].shape.begin(), 1);
      refused(tensors);
      tensors[i].shape = {};
      refused(tensors);
      const size_t last = whole[i].shape.size() - 1;
      tensors[i].shape = whole[i].shape;
      if (tensors[i].shape[last] != tensors[i].shape[last - 1]) {
        std::swap(tensors[i].shape[last], tensors[i].shape[last - 1]);
        refused(tensors);
      }
    }
    // The same list is right or wrong by what its shapes are said to be.
    refused(whole, ShapesAre::AsPacked);
    refused(test::tensors_of(version.version, {}, {.shapes = ShapesAre::AsPacked}));
  }
}

TEST_CASE("identify survives scalars and absurd numbers in place of any shape") {
  for (const VersionTraits& version : kVersions) {
    const Infos whole = test::tensors_of(version.version, {});
    for (const std::vector<uint64_t>& shape : {std::vector<uint64_t>{},
                                               {0},
                                               {1},
                                               {1, 1},
                                               {1, 1, 1},
                                               {0, 0},
                                               {~uint64_t{0}},
                                               {~uint64_t{0}, ~uint64_t{0}},
                                               {uint64_t{1} << 32, uint64_t{1} << 32},
                                               {1, 1, uint64_t{1} << 40},
                                               {2, 3, 4, 5, 6, 7, 8, 9}}) {
      for (size_t i = 0; i < whole.size(); ++i) {
        Infos tensors = whole;
        tensors[i].shape = shape;
        INFO(version.name << ": " << tensors[i].name << " " << shape_to_string(shape));
        refused(tensors);
      }
    }
  }
}

TEST_CASE("identify refuses tensors that have no place") {
  for (const VersionTraits& version : kVersions) {
    for (const char* name :
         {"blocks.1.att.extra.weight", "extra", "", "blocks.0.att.key", "blocks.00.ln1.weight",
          "blocks.-1.ln1.weight", "blocks..ln1.weight", "blocks.1", "blocks.1.", "blocks.",
          "blocks.0x1.ln1.weight", "blocks.99999999999999999999.ln1.weight", "Emb.weight"}) {
      Infos tensors = test::tensors_of(version.version, {});
      tensors.push_back({name, DType::F32, {4, 9}});
      const std::string message = refused(tensors);
      INFO(version.name << ": " << message);
      REQUIRE_THAT(message, Contains(fmt::format("'{}'", name)) && Contains("4x9"));
    }
    Infos twice = test::tensors_of(version.version, {});
    twice.push_back(twice[5]);
    REQUIRE_THAT(refused(twice), Contains(twice[5].name));
  }
}

TEST_CASE("identify refuses blocks with a hole, and too many") {
  for (const VersionTraits& version : kVersions) {
    Infos tensors = test::tensors_of(version.version, {});
    for (TensorInfo& tensor : tensors) {
      if (tensor.name.starts_with("blocks.2.")) {
        tensor.name = "blocks.3." + tensor.name.substr(9);
      }
    }
    const std::string hole = refused(tensors);
    INFO(hole);
    REQUIRE_THAT(hole, Contains("'blocks.2.") && Contains("with 4 blocks"));
    tensors.push_back({"blocks.1024.ln1.weight", DType::F32, {26}});
    REQUIRE_THAT(refused(tensors), Contains("1024"));
  }
}

TEST_CASE("identify refuses both of two alternatives") {
  Infos tensors = test::tensors_of(Version::V5_2, {});
  tensors.push_back({"blocks.1.att.time_first", DType::F32, {2, 11}});
  REQUIRE_THAT(refused(tensors), Contains("'blocks.1.att.time_first'"));
}

TEST_CASE("identify refuses factor pairs that do not fit") {
  const Infos whole = test::rwkv_lite_tensors({}, LowRankForm::Linear);
  const auto with_shape = [&](const char* name, std::vector<uint64_t> shape) {
    Infos tensors = whole;
    find_tensor(tensors, name)->shape = std::move(shape);
    const std::string message = refused(tensors);
    INFO(message);
    // Ranks are compared where the second factor follows the first.
    REQUIRE_THAT(message, Contains("'blocks.1.att.key") && Contains("expected"));
  };
  with_shape("blocks.1.att.key1.weight", {9, 27});
  with_shape("blocks.1.att.key1.weight", {0, 26});
  with_shape("blocks.1.att.key1.weight", {});
  with_shape("blocks.1.att.key1.weight", {26});
  with_shape("blocks.1.att.key2.weight", {22, 8});
  with_shape("blocks.1.att.key2.weight", {21, 9});
  with_shape("blocks.1.att.key2.weight", {9, 22});

  Infos tensors = whole;
  std::erase_if(tensors, [](const TensorInfo& t) { return t.name == "blocks.1.att.key2.weight"; });
  REQUIRE_THAT(refused(tensors), Contains("'blocks.1.att.key2.weight' is missing"));

  // A pair next to the dense weight that it replaces, and a pair where none may be.
  tensors = whole;
  tensors.push_back({"blocks.1.att.key.weight", DType::F32, {22, 26}});
  REQUIRE_THAT(refused(tensors), Contains("has no place"));
  tensors = test::tensors_of(Version::V5_2, {});
  test::replace_by_pair(tensors, "blocks.1.ffn.key", 4, Diagonal::No);
  REQUIRE_THAT(refused(tensors), Contains("'blocks.1.ffn.key.weight' is missing"));
}

TEST_CASE("identify refuses diagonals that do not fit") {
  test::ModelSizes square;
  square.head_size = 13;
  Infos tensors = test::rwkv_lite_tensors(square, LowRankForm::ReluSquared);
  find_tensor(tensors, "blocks.1.att.key_diag")->shape = {25};
  REQUIRE_THAT(refused(tensors), Contains("'blocks.1.att.key_diag' has shape 25, expected 26"));
  tensors = test::rwkv_lite_tensors({}, LowRankForm::ReluSquared);
  REQUIRE_THAT(refused(tensors), Contains("_diag'") && Contains("22x26"));
  // A diagonal without factors is not a form of RWKV-Lite.
  tensors = test::tensors_of(Version::V5_2, square);
  tensors.push_back({"blocks.1.att.key_diag", DType::F32, {26}});
  REQUIRE_THAT(refused(tensors), Contains("'blocks.1.att.key_diag'"));
}

TEST_CASE("identify says what a file is not") {
  REQUIRE_THAT(refused({}), Contains("expected an RWKV checkpoint") && Contains("0 tensors"));
  const Infos llama = {{"model.embed_tokens.weight", DType::BF16, {32, 8}}};
  REQUIRE_THAT(refused(llama), Contains("model.embed_tokens.weight"));
  const Infos no_embedding = {{"blocks.0.ln1.weight", DType::F32, {8}}};
  REQUIRE_THAT(refused(no_embedding), Contains("'emb.weight' is missing"));
}

TEST_CASE("identify returns from any list of names and shapes") {
  std::mt19937_64 random(7);
  const uint64_t numbers[] = {0, 1, 2, 5, 11, 22, 26, 67, 1u << 24, uint64_t{1} << 63};
  for (int round = 0; round < 3000; ++round) {
    Infos tensors = test::tensors_of(kVersions[random() % std::size(kVersions)].version, {});
    for (uint64_t edits = random() % 4 + 1; edits > 0; --edits) {
      TensorInfo& tensor = tensors[random() % tensors.size()];
      switch (random() % 4) {
        case 0:
          tensor.name = tensors[random() % tensors.size()].name;
          break;
        case 1:
          tensor.shape.push_back(numbers[random() % std::size(numbers)]);
          break;
        case 2:
          tensor.shape.assign(random() % 4, numbers[random() % std::size(numbers)]);
          break;
        default:
          tensor.name.resize(random() % (tensor.name.size() + 1));
          break;
      }
    }
    const auto shapes = random() % 2 == 0 ? ShapesAre::AsInCheckpoint : ShapesAre::AsPacked;
    const auto found = identify(tensors, shapes);
    REQUIRE((found.ok() || found.status().code() == Code::BadInput));
  }
}

}  // namespace rwkv
