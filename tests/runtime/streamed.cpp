// Models whose weights are streamed: the same bits as in memory, at every limit, with pieces and
// rings of any size; what stays is spread, and the account is what was told.
#include <algorithm>
#include <tuple>

#include "formats/arch/versions.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/allocations.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

using test::TinyModelOptions;

// Chunks of several sizes, with all logits and with the last. From any thread.
Result<std::vector<float>> try_logits(const std::shared_ptr<const Model>& model,
                                      unsigned n_threads) {
  const std::vector<int32_t> tokens = prompt_of(18);
  const size_t n_vocab = model->config().n_vocab;
  Evaluator evaluator(model, {.n_threads = n_threads, .max_chunk = 4});
  State state = model->empty_state();
  std::vector<float> logits(8 * n_vocab);
  const std::span<const int32_t> all(tokens);
  RWKV_TRY(evaluator.forward(all.first(10), state, Logits::None, {}));
  RWKV_TRY(evaluator.forward(all.subspan(10, 5), state, Logits::All,
                             std::span(logits).first(5 * n_vocab)));
  for (size_t i = 0; i < 3; ++i) {
    RWKV_TRY(evaluator.forward(all.subspan(15 + i, 1), state, Logits::Last,
                               std::span(logits).subspan((5 + i) * n_vocab, n_vocab)));
  }
  return logits;
}

std::vector<float> logits_of(const std::shared_ptr<const Model>& model, unsigned n_threads = 1) {
  auto logits = try_logits(model, n_threads);
  REQUIRE_OK(logits.status());
  return logits.take();
}

MemoryOptions streamed(uint64_t piece_bytes, unsigned slots) {
  MemoryOptions options;
  options.mode = MemoryMode::Streamed;
  options.stream.piece_bytes = piece_bytes;
  options.stream.slots = slots;
  return options;
}

std::vector<TinyModelOptions> models() {
  std::vector<TinyModelOptions> models = test::all_tiny_models();
  const std::vector<TinyModelOptions> plain = models;
  for (TinyModelOptions options : plain) {
    options.codec = Codec::I8Row;
    models.push_back(options);
    options.codec = options.version == Version::V6 ? Codec::Lut3 : Codec::F16;
    options.sign_predictor = true;
    options.mlp_predictor = options.version != Version::V5_0;
    options.n_cluster = 12;
    models.push_back(options);
  }
  models.push_back({.version = Version::V5_2, .codec = Codec::Mm8});
  models.push_back({.version = Version::V7, .codec = Codec::Lut4});
  models.push_back({.version = Version::V7, .codec = Codec::U6});
  return models;
}

TEST_CASE("Streamed weights give the same bits, in pieces and rings of any size", "[streamed]") {
  size_t n_models = 0;
  for (const TinyModelOptions& options : models()) {
    INFO(version_traits(options.version).name << ", " << codec_traits(options.codec).name);
    const auto full = bits_of(logits_of(open_tiny(options)));
    // Pieces of eight rows, of which there are many, for some of the models.
    const uint64_t small = n_models++ % 5 == 0 ? 1 : 3000;
    for (const auto& [piece_bytes, slots, n_threads] :
         {std::tuple<uint64_t, unsigned, unsigned>{small, 1, 1},
          {3000, 2, 3},
          {3000, 5, 2},
          {0, 1, 1}}) {
      INFO(piece_bytes << " bytes, " << slots << " slots");
      const auto model = open_tiny(options, streamed(piece_bytes, slots));
      CHECK(model->weights().residency().kept_share == 0);
      CHECK(bits_of(logits_of(model, n_threads)) == full);
    }
  }
}

TEST_CASE("As much stays in memory as a limit allows, and the rest is read", "[streamed]") {
  TinyModelOptions options = {.version = Version::V7, .codec = Codec::I8Row};
  options.n_layer = 6;
  const auto full = bits_of(logits_of(open_tiny(options)));
  MemoryOptions memory = streamed(2000, 2);
  memory.max_chunk = 1;
  memory.limit = uint64_t{1} << 30;
  const auto all = open_tiny(options, memory);
  CHECK(all->weights().residency().kept_share == 1);
  memory.limit = 0;
  const uint64_t least = open_tiny(options, memory)->weights().account().total();
  const uint64_t most = all->weights().account().total();
  double kept_before = 0;
  for (const uint64_t share : {10, 30, 50, 70, 90}) {
    memory.limit = least + (most - least) * share / 100;
    const auto model = open_tiny(options, memory);
    const Residency& residency = model->weights().residency();
    INFO(share << " %: " << residency.kept_share);
    CHECK(model->weights().account().total() <= memory.limit);
    CHECK(model->weights().account().total() + 3 * 8192 > memory.limit);
    CHECK(residency.kept_share > kept_before);
    kept_before = residency.kept_share;
    CHECK(bits_of(logits_of(model, 2)) == full);
    // A token reads what was told, and rows of the embedding.
    Evaluator evaluator(model, {});
    State state = model->empty_state();
    std::vector<float> logits(options.n_vocab);
    const uint64_t before = model->weights().traffic().read();
    const uint64_t rows_before = model->weights().traffic().at(Component::Embedding).read;
    for (int32_t token = 100; token < 110; ++token) {
      REQUIRE_OK(evaluator.forward({&token, 1}, state, Logits::Last, logits));
    }
    const Traffic traffic = model->weights().traffic();
    uint64_t pieces = 0;
    for (const PlacedPiece& piece : residency.pieces) {
      pieces += piece.stays ? 0 : piece.source.n_bytes;
    }
    CHECK(traffic.read() - before - (traffic.at(Component::Embedding).read - rows_before) ==
          10 * pieces);
    CHECK(pieces <= residency.read.bytes);
  }
}

TEST_CASE("What stays is spread through the order of use, or is its beginning", "[streamed]") {
  TinyModelOptions options = {.version = Version::V7, .codec = Codec::I8Row};
  options.n_layer = 8;
  MemoryOptions memory = streamed(2000, 2);
  memory.max_chunk = 1;
  const uint64_t least = open_tiny(options, memory)->weights().account().total();
  memory.limit = least + least * 3 / 4;
  // Bytes that are streamed of each eighth of what is used.
  const auto eighths = [&] {
    const auto model = open_tiny(options, memory);
    const Residency& residency = model->weights().residency();
    std::vector<uint64_t> bytes(options.n_layer);
    for (const PlacedPiece& piece : residency.pieces) {
      const std::string& name = model->weights().tensors()[piece.source.tensor].name;
      if (!piece.stays && name.starts_with("blocks.")) {
        bytes[static_cast<size_t>(std::stoi(name.substr(7)))] += piece.source.n_bytes;
      }
    }
    return bytes;
  };
  const std::vector<uint64_t> spread = eighths();
  const auto [fewest, most] = std::minmax_element(spread.begin(), spread.end());
  CHECK(*fewest > 0);
  CHECK(*most < 2 * *fewest);
  memory.stream.bottom_first = true;
  const std::vector<uint64_t> bottom = eighths();
  CHECK(bottom.front() == 0);
  CHECK(bottom.back() > *most);
}

TEST_CASE("A limit takes streaming before one block at a time", "[streamed]") {
  TinyModelOptions options = {.version = Version::V7, .codec = Codec::I8Row};
  options.n_layer = 8;
  const test::ScratchFolder folder;
  const std::string path = test::write_tiny_model(folder, options);
  MemoryOptions sparse;
  sparse.mode = MemoryMode::Sparse;
  sparse.limit = 1;
  const std::string refused = Model::open(path, sparse).status().message();
  const std::string text = "smallest possible limit is ";
  MemoryOptions memory;
  memory.limit = std::stoull(refused.substr(refused.find(text) + text.size())) - 1;
  const auto model = Model::open(path, memory);
  REQUIRE_OK(model.status());
  CHECK(model.value()->weights().residency().mode == MemoryMode::Streamed);
  CHECK(bits_of(logits_of(model.value())) == bits_of(logits_of(open_tiny(options))));
}

TEST_CASE("Decoding with streamed weights allocates nothing", "[streamed]") {
  const auto model = open_tiny({.version = Version::V7, .codec = Codec::I8Row}, streamed(2000, 2));
  Evaluator evaluator(model, {});
  State state = model->empty_state();
  std::vector<float> logits(model->config().n_vocab);
  const auto feed = [&](int32_t token) {
    REQUIRE(evaluator.forward({&token, 1}, state, Logits::Last, logits).ok());
  };
  feed(1);
  const size_t before = test::n_allocations();
  for (int32_t token = 2; token < 9; ++token) {
    feed(token);
  }
  CHECK(test::n_allocations() == before);
}

// What a token of a streamed model ends with when byte `at` of its file is another.
Status with_damage(const std::string& path, uint64_t at, const MemoryOptions& memory) {
  std::vector<std::byte> bytes = test::read_bytes(path);
  bytes[at] ^= std::byte{1};
  const std::string damaged = path + ".damaged";
  test::write_bytes(damaged, bytes);
  const auto model = Model::open(damaged, memory);
  REQUIRE_OK(model.status());
  Evaluator evaluator(model.value(), {});
  State state = model.value()->empty_state();
  std::vector<float> logits(model.value()->config().n_vocab);
  const int32_t token = 5;
  return evaluator.forward({&token, 1}, state, Logits::Last, logits);
}

TEST_CASE("A damaged tensor ends the first pass that streams it, by name", "[streamed]") {
  const test::ScratchFolder folder;
  const std::string path =
      test::write_tiny_model(folder, {.version = Version::V7, .codec = Codec::I8Row});
  MemoryOptions memory = streamed(2000, 2);
  memory.max_chunk = 1;
  const auto whole = Model::open(path, memory);
  REQUIRE_OK(whole.status());
  memory.limit = whole.value()->weights().account().total() + 60'000;
  const auto model = Model::open(path, memory);
  REQUIRE_OK(model.status());
  const Residency& residency = model.value()->weights().residency();
  size_t n_streamed = 0;
  size_t n_kept = 0;
  for (const PlacedPiece& piece : residency.pieces) {
    const std::string& name = model.value()->weights().tensors()[piece.source.tensor].name;
    ++(piece.stays ? n_kept : n_streamed);
    INFO(name << ", row " << piece.first_row);
    const Status status = with_damage(path, piece.source.offset + piece.source.n_bytes / 2, memory);
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(),
               Catch::Contains("'" + name + "'") && Catch::Contains(path + ".damaged"));
  }
  CHECK(n_streamed > 20);
  CHECK(n_kept > 5);
}

TEST_CASE("Sessions of a streamed model take turns", "[streamed]") {
  const TinyModelOptions options = {.version = Version::V7, .codec = Codec::I8Row};
  const auto full = bits_of(logits_of(open_tiny(options)));
  const auto model = open_tiny(options, streamed(2000, 2));
  std::vector<std::vector<float>> logits(3);
  std::vector<std::thread> threads;
  for (std::vector<float>& to : logits) {
    threads.emplace_back([&] {
      auto found = try_logits(model, 1);
      to = found.ok() ? found.take() : std::vector<float>();
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::vector<float>& of_thread : logits) {
    CHECK(bits_of(of_thread) == full);
  }
}

}  // namespace
}  // namespace rwkv::edge
