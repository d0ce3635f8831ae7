// Which bytes tokens touch: by the shapes where tensors are used whole, counted where rows are
// used.
#include "runtime/account/traffic.h"

#include "formats/arch/access.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

using test::TinyModelOptions;

// What `n` single tokens touch, with logits or without.
Traffic traffic_of(const std::shared_ptr<const Model>& model, size_t n, Logits which) {
  Evaluator evaluator(model, {});
  State state = model->empty_state();
  std::vector<float> logits(which == Logits::None ? 0 : model->config().n_vocab);
  for (const int32_t token : prompt_of(n)) {
    REQUIRE_OK(evaluator.forward({&token, 1}, state, which, logits));
  }
  return model->weights().traffic();
}

uint64_t bytes_of(const std::shared_ptr<const Model>& model, const std::string& part) {
  uint64_t bytes = 0;
  for (const PackedTensor& tensor : model->weights().tensors()) {
    bytes += tensor.name.find(part) != std::string::npos ? tensor.n_bytes : 0;
  }
  return bytes;
}

TEST_CASE("A token of a dense model touches all matrices and one row of the embedding",
          "[traffic]") {
  const auto model = open_tiny({.version = Version::V5_2, .codec = Codec::F16});
  const uint64_t n_embd = model->config().n_embd;
  const Traffic traffic = traffic_of(model, 3, Logits::Last);
  CHECK(traffic.at(Component::Embedding).touched == 3 * 2 * n_embd);
  CHECK(traffic.at(Component::Head).touched == 3 * bytes_of(model, "head.weight"));
  CHECK(traffic.at(Component::ChannelMix).touched == 3 * bytes_of(model, "ffn.receptance"));
  CHECK(traffic.at(Component::TimeMix).touched ==
        3 * (bytes_of(model, ".att.") - bytes_of(model, ".att.time_") - bytes_of(model, ".ln_x")));
  // All of the keys, and the values of active neurons.
  const uint64_t keys = bytes_of(model, "ffn.key");
  CHECK(traffic.at(Component::Neurons).touched > 3 * keys);
  CHECK(traffic.at(Component::Neurons).touched < 3 * (keys + bytes_of(model, "ffn.value")));
  CHECK(traffic.at(Component::Vectors).touched > 0);
  CHECK(traffic.touched() <= 3 * model->weights().whole().most_per_token);
  CHECK(traffic.read() == 0);
}

TEST_CASE("A token of v7a touches, and sparse reads, one row of each of its tables", "[traffic]") {
  const TinyModelOptions options = {.version = Version::V7a, .codec = Codec::I8Row};
  const auto model = open_tiny(options);
  const auto row_bytes = codec_traits(Codec::I8Row).unit_bytes;
  const uint64_t side = model->config().deep_embed;
  const uint64_t rows_of_token =
      row_bytes(model->config().n_embd) + model->config().n_layer * row_bytes(side * side);
  const Traffic traffic = traffic_of(model, 3, Logits::Last);
  CHECK(traffic.at(Component::Embedding).touched == 3 * rows_of_token);
  CHECK(traffic.at(Component::ChannelMix).touched ==
        3 * (bytes_of(model, "ffn.s1") + bytes_of(model, "ffn.s2") + bytes_of(model, "s_emb_x")));
  CHECK(traffic.touched() <= 3 * model->weights().whole().most_per_token);
  MemoryOptions memory;
  memory.mode = MemoryMode::Sparse;
  memory.embedding_rows = 1;
  const auto sparse = open_tiny(options, memory);
  CHECK(traffic_of(sparse, 3, Logits::Last).at(Component::Embedding).read == 3 * rows_of_token);
  const auto resident = [](const Model& of) {
    return of.weights().account().at(Component::Embedding).resident;
  };
  CHECK(resident(*model) == bytes_of(model, "emb.weight"));
  CHECK(resident(*sparse) < resident(*model) / 20);
}

TEST_CASE("Without logits the head is not touched; traffic of evaluators adds up", "[traffic]") {
  TinyModelOptions options;
  options.n_cluster = GENERATE(0, 9);
  const auto model = open_tiny(options);
  const Traffic before = traffic_of(model, 2, Logits::None);
  CHECK(before.at(Component::Head).touched == 0);
  CHECK(before.at(Component::ClusterHead).touched == 0);
  const Traffic after = traffic_of(model, 2, Logits::Last);
  CHECK(after.at(Component::Head).touched > 0);
  CHECK((after.at(Component::ClusterHead).touched > 0) == (options.n_cluster > 0));
  CHECK(after.at(Component::TimeMix).touched == 2 * before.at(Component::TimeMix).touched);
}

TEST_CASE("Rows are read on demand where the model has what it takes", "[traffic]") {
  TinyModelOptions options;
  options.sign_predictor = GENERATE(false, true);
  options.n_cluster = options.sign_predictor ? 9 : 0;
  const test::ScratchFolder folder;
  const auto file = PackedFile::open(test::write_tiny_model(folder, options));
  REQUIRE_OK(file.status());
  const ModelAccess access(file.value().config, file.value().bindings);
  for (const TensorBinding& binding : file.value().bindings) {
    INFO(binding.name);
    Access expected = role_traits(binding.role).access;
    if ((binding.role == Role::FfnKey && !options.sign_predictor) ||
        (binding.role == Role::Head && options.n_cluster == 0)) {
      expected = Access::EveryToken;
    }
    CHECK(access.of(binding) == expected);
  }
}

// What the line about memory says a token reads, against what the traffic counts, as --stats does.
TEST_CASE("Bytes read per token within a limit are those that are told before", "[traffic]") {
  constexpr size_t kTokens = 6;
  TinyModelOptions dense = {.version = Version::V7, .codec = Codec::I8Row};
  dense.n_layer = 5;
  // Every neuron is predicted and every cluster chosen, so that all rows are read.
  TinyModelOptions lite = {.version = Version::V5_2, .codec = Codec::I8Row};
  lite.sign_predictor = true;
  lite.predictor_threshold = -1e9f;
  lite.n_cluster = 9;
  lite.p_min = 1.0f;
  lite.k_min = 9;
  for (const TinyModelOptions& options : {dense, lite}) {
    const bool is_lite = options.sign_predictor;
    for (const ModeTraits& mode : mode_list()) {
      MemoryOptions memory;
      memory.mode = mode.mode;
      memory.neuron_cache = 0.0;
      memory.head_cache = 0.0;
      memory.embedding_rows = 1;
      memory.max_chunk = 1;
      const uint64_t free = open_tiny(options, memory)->weights().account().total();
      for (const double room : {1.0, 1.2, 1.5}) {
        INFO(mode.name << ", predictors " << is_lite << ", room " << room);
        memory.limit = static_cast<uint64_t>(static_cast<double>(free) * room);
        const auto model = open_tiny(options, memory);
        const Residency& residency = model->weights().residency();
        CHECK(model->weights().account().total() <= memory.limit);
        traffic_of(model, 1, Logits::Last);  // reads what stays
        const uint64_t before = model->weights().traffic().read();
        traffic_of(model, kTokens, Logits::Last);
        const double read =
            static_cast<double>(model->weights().traffic().read() - before) / kTokens;
        const auto told = static_cast<double>(residency.read.bytes);
        // ffn.value is not read for neurons that are zero; whatever else is told is read.
        double values = 0;
        for (size_t i = 0; i < residency.tensors.size(); ++i) {
          const Residence where = residency.tensors[i].residence;
          const PackedTensor& tensor = model->weights().tensors()[i];
          if (tensor.name.find("ffn.value") != std::string::npos &&
              (where == Residence::Rows || where == Residence::Window ||
               where == Residence::Parts)) {
            values += static_cast<double>(tensor.n_bytes);
          }
        }
        CHECK(told - read <= values);
        const bool reads = mode.mode != MemoryMode::Full && mode.mode != MemoryMode::Loaded;
        CHECK((read > 0) == reads);
        CHECK(read <= told);
      }
    }
  }
}

}  // namespace
}  // namespace rwkv::edge
