// Where bytes live makes no difference to what is computed: every mode gives the same bits;
// predictors that name everything and heads that select everything are the dense model.
#include <cstdio>
#include <filesystem>

#include "formats/arch/versions.h"
#include "rwkv_edge.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

using test::TinyModelOptions;

std::vector<float> logits_of(const std::shared_ptr<const Model>& model, size_t step,
                             unsigned n_threads = 1) {
  const std::vector<int32_t> tokens = prompt_of(75);
  const size_t n_vocab = model->config().n_vocab;
  Evaluator evaluator(model, {.n_threads = n_threads});
  State state = model->empty_state();
  std::vector<float> logits(tokens.size() * n_vocab);
  for (size_t at = 0; at < tokens.size(); at += step) {
    const size_t n = std::min(step, tokens.size() - at);
    REQUIRE_OK(evaluator.forward(std::span(tokens).subspan(at, n), state, Logits::All,
                                 std::span(logits).subspan(at * n_vocab, n * n_vocab)));
  }
  return logits;
}

MemoryOptions in_mode(MemoryMode mode) {
  MemoryOptions options;
  options.mode = mode;
  return options;
}

// Everything that stages can add, in every version.
std::vector<TinyModelOptions> extended_models() {
  std::vector<TinyModelOptions> models = test::all_tiny_models();
  for (TinyModelOptions& options : models) {
    options.codec = options.version == Version::V6 ? Codec::F16 : Codec::I8Row;
    options.sign_predictor = options.version != Version::V4;
    options.mlp_predictor = options.version != Version::V5_0;
    options.n_cluster = 12;
    options.p_min = 0.6f;
    options.k_min = 2;
    options.first_cluster_always = options.version == Version::V7;
  }
  models.push_back({.version = Version::V5_2, .codec = Codec::Mm8});
  models.push_back({.version = Version::V7, .codec = Codec::I8Row});
  // Tiles, with and without rows on demand next to them.
  models.push_back({.version = Version::V7, .codec = Codec::Lut4});
  models.push_back({.version = Version::V6,
                    .codec = Codec::Lut3,
                    .sign_predictor = true,
                    .n_cluster = 12,
                    .p_min = 0.6f,
                    .k_min = 2});
  return models;
}

TEST_CASE("Every memory mode gives the same bits, with caches of any size", "[memory]") {
  for (const TinyModelOptions& options : extended_models()) {
    const auto full = bits_of(logits_of(open_tiny(options), 1));
    INFO(version_traits(options.version).name);
    for (const ModeTraits& traits : mode_list()) {
      INFO(traits.name);
      CHECK(bits_of(logits_of(open_tiny(options, in_mode(traits.mode)), 1)) == full);
      CHECK(bits_of(logits_of(open_tiny(options, in_mode(traits.mode)), 13, 2)) == full);
      for (const double share : {0.0, 0.02, 1.0}) {
        MemoryOptions memory = in_mode(traits.mode);
        memory.neuron_cache = share;
        memory.head_cache = share;
        memory.embedding_rows = share > 0.5 ? 1000 : 1;
        CHECK(bits_of(logits_of(open_tiny(options, memory), 5, 3)) == full);
      }
    }
  }
}

TEST_CASE("Memory modes have the names and numbers that callers use", "[memory]") {
  const std::pair<MemoryMode, int> numbers[] = {
      {MemoryMode::Full, RWKV_MEMORY_FULL},         {MemoryMode::Loaded, RWKV_MEMORY_LOADED},
      {MemoryMode::Sparse, RWKV_MEMORY_SPARSE},     {MemoryMode::Windowed, RWKV_MEMORY_WINDOWED},
      {MemoryMode::Streamed, RWKV_MEMORY_STREAMED}, {MemoryMode::Layerwise, RWKV_MEMORY_LAYERWISE}};
  CHECK(mode_list().size() == std::size(numbers));
  for (const auto& [mode, number] : numbers) {
    const ModeTraits& traits = mode_traits(mode);
    CHECK(traits.c_value == number);
    CHECK(memory_mode_named(traits.name, "--memory").value() == mode);
    CHECK_THAT(memory_mode_names(), Catch::Contains(traits.name));
  }
  const Status unknown = memory_mode_named("layerwize", "--memory").status();
  CHECK(unknown.code() == Code::Usage);
  CHECK_THAT(unknown.message(), Catch::Contains("--memory") && Catch::Contains("'layerwise'"));
}

TEST_CASE("All neurons predicted is the dense model, bit for bit", "[memory]") {
  for (TinyModelOptions options : test::all_tiny_models()) {
    options.codec = Codec::F16;
    const auto dense = bits_of(logits_of(open_tiny(options), 1));
    options.sign_predictor = true;
    options.mlp_predictor = true;
    options.predictor_threshold = -1e30f;
    CHECK(bits_of(logits_of(open_tiny(options), 1)) == dense);
    CHECK(bits_of(logits_of(open_tiny(options, in_mode(MemoryMode::Sparse)), 7)) == dense);
    options.predictor_threshold = 0.0f;
    CHECK(bits_of(logits_of(open_tiny(options), 1)) != dense);
  }
}

TEST_CASE("All clusters selected is the full head, bit for bit", "[memory]") {
  for (TinyModelOptions options : test::all_tiny_models()) {
    options.codec = Codec::I8Row;
    const auto dense = bits_of(logits_of(open_tiny(options), 1));
    options.n_cluster = 9;
    options.p_min = 1.0f;
    options.k_min = 9;
    CHECK(bits_of(logits_of(open_tiny(options), 1)) == dense);
    CHECK(bits_of(logits_of(open_tiny(options, in_mode(MemoryMode::Sparse)), 4)) == dense);
  }
}

TEST_CASE("A memory limit picks the richest mode it allows, or names the smallest", "[memory]") {
  const test::ScratchFolder folder;
  TinyModelOptions options;
  options.codec = Codec::I8Row;
  options.sign_predictor = true;
  options.n_cluster = 12;
  options.n_layer = 8;
  const std::string path = test::write_tiny_model(folder, options);
  const auto open = [&](uint64_t limit, std::optional<MemoryMode> mode = {}) {
    MemoryOptions memory;
    memory.mode = mode;
    memory.limit = limit;
    return Model::open(path, memory);
  };
  const auto smallest = [&](const Status& status) {
    REQUIRE(status.code() == Code::Usage);
    const std::string text = "smallest possible limit is ";
    const size_t at = status.message().find(text);
    REQUIRE(at != std::string::npos);
    return std::stoull(status.message().substr(at + text.size()));
  };
  const uint64_t least = smallest(open(1).status());
  const uint64_t least_sparse = smallest(open(1, MemoryMode::Sparse).status());
  const uint64_t least_full = smallest(open(1, MemoryMode::Full).status());
  CHECK(least < least_sparse);
  CHECK(least_sparse < least_full);
  CHECK(smallest(open(least - 1).status()) == least);
  const auto expected = bits_of(logits_of(open_tiny(options), 1));
  for (const auto& [limit, mode] :
       {std::pair{least, MemoryMode::Streamed}, std::pair{least_sparse, MemoryMode::Sparse},
        std::pair{(least_sparse + least_full) / 2, MemoryMode::Sparse},
        std::pair{least_full, MemoryMode::Full}}) {
    auto model = open(limit);
    REQUIRE_OK(model.status());
    CHECK(model.value()->weights().residency().mode == mode);
    CHECK(model.value()->weights().account().total() <= limit);
    CHECK(bits_of(logits_of(model.value(), 3)) == expected);
  }
}

TEST_CASE("A file opens in the mode that it was made for", "[memory]") {
  TinyModelOptions options;
  options.codec = Codec::I8Row;
  const auto mode_of = [&] {
    return open_tiny(options, MemoryOptions{})->weights().residency().mode;
  };
  CHECK(mode_of() == MemoryMode::Full);
  options.sign_predictor = true;
  CHECK(mode_of() == MemoryMode::Sparse);  // windowed where a window is worth it
  options.sign_predictor = false;
  options.n_cluster = 12;
  CHECK(mode_of() == MemoryMode::Sparse);
  CHECK(open_tiny(options, in_mode(MemoryMode::Loaded))->weights().residency().mode ==
        MemoryMode::Loaded);
}

TEST_CASE("Streamed blocks stay in memory as far as there is room", "[memory]") {
  const test::ScratchFolder folder;
  TinyModelOptions options;
  options.codec = Codec::I8Row;
  options.n_layer = 8;
  const std::string path = test::write_tiny_model(folder, options);
  const auto open = [&](uint64_t limit) {
    MemoryOptions memory = in_mode(MemoryMode::Layerwise);
    memory.limit = limit;
    memory.max_chunk = 1;
    auto model = Model::open(path, memory);
    REQUIRE_OK(model.status());
    return model.take();
  };
  const auto expected = bits_of(logits_of(open_tiny(options), 1));
  const auto all = open(uint64_t{1} << 30);
  CHECK(all->weights().residency().pinned_blocks == 8);
  CHECK(all->weights().residency().slot_bytes == 0);
  const uint64_t most = all->weights().account().total();
  uint64_t read_before = UINT64_MAX;
  for (const uint64_t share : {70, 80, 90, 100}) {
    const uint64_t limit = most * share / 100;
    const auto model = open(limit);
    const Residency& residency = model->weights().residency();
    INFO(share << " %: " << residency.pinned_blocks << " blocks");
    CHECK(model->weights().account().total() <= limit);
    CHECK(residency.pinned_blocks > 0);
    CHECK(bits_of(logits_of(model, 1)) == expected);
    // What is read falls with every block, and is no more than was said.
    const uint64_t read = model->weights().traffic().read() / 75;
    CHECK(read <= residency.read.bytes);
    CHECK(read <= read_before);
    read_before = read;
  }
  CHECK(read_before < options.n_embd * 8);  // rows of the embedding
}

TEST_CASE("What is read from storage is counted", "[memory]") {
  TinyModelOptions options;
  options.codec = Codec::I8Row;
  MemoryOptions memory = in_mode(MemoryMode::Sparse);
  memory.embedding_rows = 4;
  const auto model = open_tiny(options, memory);
  Evaluator evaluator(model, {});
  State state = model->empty_state();
  const auto feed = [&](int32_t token) {
    REQUIRE_OK(evaluator.forward({&token, 1}, state, Logits::None, {}));
  };
  for (const int32_t token : {1, 2, 3, 1, 2, 3, 4, 5, 1}) {
    feed(token);
  }
  // 1 2 3 are read, found, then 4 is read, 5 takes the place of 1, which is read again.
  const ComponentTraffic rows = model->weights().traffic().at(Component::Embedding);
  CHECK(rows.hits == 3);
  CHECK(rows.misses == 6);
  CHECK(rows.read == 6 * codec_traits(Codec::I8Row).unit_bytes(options.n_embd));
  CHECK(model->weights().traffic().at(Component::Neurons).read > 0);
}

TEST_CASE("Storage that fails is reported, and the model goes on when it is back", "[memory]") {
  const test::ScratchFolder folder;
  const std::string path = test::write_tiny_model(folder, {.codec = Codec::I8Row});
  for (const MemoryMode mode : {MemoryMode::Sparse, MemoryMode::Streamed, MemoryMode::Layerwise}) {
    auto model = Model::open(path, in_mode(mode));
    REQUIRE_OK(model.status());
    const std::vector<std::byte> bytes = test::read_bytes(path);
    const auto expected = bits_of(logits_of(model.value(), 1));
    std::filesystem::resize_file(path, bytes.size() / 2);
    Evaluator evaluator(model.value(), {});
    State state = model.value()->empty_state();
    const std::vector<int32_t> tokens = prompt_of(60);
    const Status status = evaluator.forward(tokens, state, Logits::None, {});
    CHECK_FALSE(status.ok());
    CHECK_THAT(status.message(), Catch::Contains(path));
    // Written in place: the model holds the file open.
    std::FILE* file = std::fopen(path.c_str(), "r+b");
    REQUIRE(file != nullptr);
    REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
    std::fclose(file);
    CHECK(bits_of(logits_of(model.value(), 1)) == expected);
  }
}

}  // namespace
}  // namespace rwkv::edge
