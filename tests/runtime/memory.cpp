// Where bytes live makes no difference to what is computed: every mode gives the same bits;
// predictors that name everything and heads that select everything are the dense model.

#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>

#include "formats/arch/versions.h"
#include "formats/base/little_endian.h"
#include "runtime/model/cluster_head.h"
#include "runtime/storage/large_pages.h"
#include "runtime/storage/lru.h"
#include "runtime/storage/row_window.h"
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
  return models;
}

TEST_CASE("Every memory mode gives the same bits, with caches of any size", "[memory]") {
  for (const TinyModelOptions& options : extended_models()) {
    const auto full = bits_of(logits_of(open_tiny(options), 1));
    INFO(version_traits(options.version).name);
    for (const MemoryMode mode : kMemoryModes) {
      INFO(memory_mode_name(mode));
      CHECK(bits_of(logits_of(open_tiny(options, in_mode(mode)), 1)) == full);
      CHECK(bits_of(logits_of(open_tiny(options, in_mode(mode)), 13, 2)) == full);
      for (const double share : {0.0, 0.02, 1.0}) {
        MemoryOptions memory = in_mode(mode);
        memory.neuron_cache = share;
        memory.head_cache = share;
        memory.embedding_rows = share > 0.5 ? 1000 : 1;
        CHECK(bits_of(logits_of(open_tiny(options, memory), 5, 3)) == full);
      }
    }
  }
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

// softmax(W z + b), and the softmax of the logits summed over each cluster.
std::vector<double> softmax(std::vector<double> values) {
  const double most = *std::max_element(values.begin(), values.end());
  double sum = 0.0;
  for (double& value : values) {
    value = std::exp(value - most);
    sum += value;
  }
  for (double& value : values) {
    value /= sum;
  }
  return values;
}

TEST_CASE("Clusters that were not selected have the probability of the cluster head", "[memory]") {
  TinyModelOptions options;
  options.n_cluster = 12;
  options.k_min = 2;
  options.p_min = GENERATE(0.05f, 0.5f, 0.9f, 0.999f);
  options.first_cluster_always = options.p_min == 0.5f;
  if (GENERATE(false, true)) {
    options.n_vocab = 3 * kMaxGather;  // the selected rows come in several gathers
  }
  const auto model = open_tiny(options);
  const Weights& weights = model->weights();
  ClusterHead head;
  REQUIRE_OK(head.load(weights));
  const auto matrix = weights.matrix("head.cluster.weight").value();
  const auto bias = weights.vector("head.cluster.bias").value();
  const auto first = weights.vector("head.cluster.first").value();
  const auto dense = weights.matrix("head.weight").value();
  Pass pass(model->config(), *kernel_list().front(), {1, 1, 0});
  pass.n_tokens = 1;
  std::mt19937 random(7);
  size_t n_unselected = 0;
  for (int round = 0; round < 50; ++round) {
    std::vector<float> z(options.n_embd);
    for (float& value : z) {
      value = 3.0f * std::normal_distribution<float>()(random);
    }
    std::vector<float> logits(options.n_vocab);
    REQUIRE_OK(head.forward(pass, z.data(), logits.data()));
    const auto dot = [&](const MatrixView& w, size_t row) {
      double sum = 0.0;
      for (size_t i = 0; i < z.size(); ++i) {
        sum += static_cast<double>(load_le<float>(w.units + (row * z.size() + i) * 4)) *
               static_cast<double>(z[i]);
      }
      return sum;
    };
    std::vector<double> p(options.n_cluster);
    for (size_t c = 0; c < p.size(); ++c) {
      p[c] = dot(matrix, c) + static_cast<double>(bias[c]);
    }
    p = softmax(p);
    // The selection by hand: the most probable until p_min, at least k_min.
    std::vector<size_t> order(p.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
    std::vector<bool> is_selected(p.size());
    double reached = 0.0;
    for (size_t i = 0; i < order.size() && (i < 2 || reached < options.p_min); ++i) {
      is_selected[order[i]] = true;
      reached += p[order[i]];
    }
    is_selected[0] = is_selected[0] || options.first_cluster_always;
    const std::vector<double> all = softmax({logits.begin(), logits.end()});
    for (size_t c = 0; c < p.size(); ++c) {
      const auto begin = static_cast<size_t>(first[c]);
      const size_t end = c + 1 < p.size() ? static_cast<size_t>(first[c + 1]) : options.n_vocab;
      double mass = 0.0;
      for (size_t row = begin; row < end; ++row) {
        const size_t token = options.n_vocab - 1 - row;
        mass += all[token];
        if (is_selected[c]) {
          REQUIRE(static_cast<double>(logits[token]) == Approx(dot(dense, row)).margin(1e-4));
        }
      }
      if (!is_selected[c]) {
        ++n_unselected;
        REQUIRE(std::fabs(mass - p[c]) < 1e-5);
      }
    }
  }
  CHECK(n_unselected > 50);
}

TEST_CASE("Buffers lie in one piece, each on lines of its own", "[memory]") {
  const auto model = open_tiny(TinyModelOptions());
  for (const size_t max_tokens : std::array<size_t, 3>{1, 7, 32}) {
    const ScratchSizes sizes = {3, max_tokens, 5};
    const Scratch scratch(model->config(), sizes);
    std::vector<std::span<const std::byte>> parts;
    const auto note = [&](auto span) { parts.push_back(std::as_bytes(span)); };
    note(scratch.x), note(scratch.normed), note(scratch.out), note(scratch.arena);
    note(scratch.marks), note(scratch.bias), note(scratch.planes), note(scratch.rank_space);
    note(scratch.whole), note(scratch.steps), note(scratch.sums), note(scratch.rows);
    note(scratch.ids), note(scratch.numbers), note(scratch.row_places);
    size_t total = 0;
    const std::byte* end = parts.front().data();
    for (const auto part : parts) {
      CHECK(reinterpret_cast<uintptr_t>(part.data()) % kCacheLine == 0);
      CHECK(part.data() >= end);
      end = part.data() + part.size();
      total += part.size();
    }
    CHECK(total > 0);
    CHECK(static_cast<uint64_t>(end - parts.front().data()) <=
          Scratch::bytes(model->config(), sizes));
    CHECK(scratch.numbers[kMaxGather - 1] == kMaxGather - 1);
    CHECK(std::all_of(scratch.arena.begin(), scratch.arena.end(), [](float v) { return v == 0; }));
  }
}

TEST_CASE("The least recently used row leaves a cache first", "[memory]") {
  for (const uint64_t capacity : {3, 200}) {
    Lru lru(1000, capacity);
    for (uint64_t unit = 0; unit < capacity; ++unit) {
      CHECK(lru.find(unit) == Lru::kNone);
      lru.replace(unit);
    }
    lru.touch(lru.find(0));  // 1 is the oldest now
    lru.replace(500);
    CHECK(lru.find(1) == Lru::kNone);
    CHECK(lru.find(0) != Lru::kNone);
    CHECK(lru.find(500) != Lru::kNone);
    lru.replace(501);
    CHECK(lru.find(2) == Lru::kNone);
    lru.clear();
    CHECK(lru.find(500) == Lru::kNone);
  }
  // Against a plain list, at random.
  std::mt19937 random(1);
  Lru lru(400, 150);
  std::vector<uint64_t> model;  // used last first
  for (int i = 0; i < 20000; ++i) {
    const uint64_t unit = random() % 400;
    const auto found = std::find(model.begin(), model.end(), unit);
    REQUIRE((lru.find(unit) != Lru::kNone) == (found != model.end()));
    if (found != model.end()) {
      lru.touch(lru.find(unit));
      model.erase(found);
    } else {
      lru.replace(unit);
      if (model.size() == 150) {
        model.pop_back();
      }
    }
    model.insert(model.begin(), unit);
  }
}

// Every eighth byte of a file of its own says where it lies.
std::string write_places(const test::ScratchFolder& folder, uint64_t n_bytes) {
  std::vector<std::byte> bytes(n_bytes);
  for (uint64_t at = 0; at < n_bytes; at += 8) {
    store_le(bytes.data() + at, at);
  }
  const std::string path = folder.file("places");
  test::write_bytes(path, bytes);
  return path;
}

// Of files alone: sanitizers have memory of their own for what is touched. 0 if nobody says.
uint64_t resident_of_files() {
  const auto memory = process_memory();
  return memory ? memory->rss - memory->anonymous : 0;
}

TEST_CASE("Of a file that is used through a window little is resident", "[memory]") {
  constexpr uint64_t kBytes = uint64_t{70} << 20;
  const test::ScratchFolder folder;
  const std::string path = write_places(folder, kBytes);
  const auto file = MappedFile::open(path);
  REQUIRE_OK(file.status());
  if (GENERATE(false, true)) {
    want_large_pages(file.value()->bytes());
    const FileRange all = {0, kBytes};
    refill_in_large_pages(*InputFile::open(path).value(), file.value()->bytes(), {&all, 1});
  }
  const uint64_t room = RowWindow::room_for(kBytes);
  RowWindow window(file.value(), room);
  const uint64_t before = resident_of_files();
  std::mt19937_64 random(5);
  const auto stretch = [&](uint64_t most_bytes) {
    const uint64_t n = 8 + random() % (most_bytes - 8) / 8 * 8;
    return FileRange{random() % (kBytes - n) / 8 * 8, n};
  };
  uint64_t most = 0;
  FileRange next = stretch(RowWindow::kSpan);
  for (int i = 0; i < 300; ++i) {
    const auto [begin, n] = next;
    const std::byte* at = window.move_to(begin, begin + n);
    // What was prefetched comes next, or something else does.
    next = stretch(i % 3 == 0 ? RowWindow::kSpan : RowWindow::kSpan / 4);
    if (i % 4 == 0) {
      window.prefetch(next.offset, next.offset + next.n_bytes);
      next = i % 8 == 0 ? next : stretch(RowWindow::kSpan);
    }
    for (uint64_t j = 0; j < n; j += 4096) {
      REQUIRE(load_le<uint64_t>(at + j) == begin + j);
    }
    REQUIRE(load_le<uint64_t>(at + n - 8) == begin + n - 8);
    if (i % 10 == 0) {
      most = std::max(most, resident_of_files() - std::min(before, resident_of_files()));
    }
    if (i % 5 == 0) {
      window.release();
    }
  }
  constexpr uint64_t kNoise = uint64_t{1} << 20;
  CHECK(most < room + kNoise);
  CHECK((most > 0 || !process_memory()));
  CHECK(room < kBytes / 2);
}

TEST_CASE("A window prefetches beside what is in use, if there is room", "[memory]") {
  constexpr uint64_t kBytes = uint64_t{70} << 20;
  constexpr uint64_t kStretch = uint64_t{4} << 20;
  const test::ScratchFolder folder;
  const auto file = MappedFile::open(write_places(folder, kBytes));
  REQUIRE_OK(file.status());
  const auto grows = [&](RowWindow& window, uint64_t begin) {
    const uint64_t before = resident_of_files();
    window.prefetch(begin, begin + kStretch);
    return resident_of_files() > before;
  };
  if (!process_memory()) {
    return;
  }
  RowWindow wide(file.value(), 4 * kStretch);
  wide.move_to(0, kStretch);
  CHECK(grows(wide, 8 * kStretch));
  CHECK_FALSE(grows(wide, 8 * kStretch));
  RowWindow narrow(file.value(), kStretch + kLargePage);
  CHECK(grows(narrow, 4 * kStretch));
  narrow.move_to(2 * kStretch, 3 * kStretch);
  CHECK_FALSE(grows(narrow, 6 * kStretch));
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
    const std::string text = "smallest that can is ";
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
       {std::pair{least, MemoryMode::Layerwise}, std::pair{least_sparse, MemoryMode::Sparse},
        std::pair{(least_sparse + least_full) / 2, MemoryMode::Sparse},
        std::pair{least_full, MemoryMode::Full}}) {
    auto model = open(limit);
    REQUIRE_OK(model.status());
    CHECK(model.value()->weights().plan().mode == mode);
    CHECK(model.value()->weights().account().total() <= limit);
    CHECK(bits_of(logits_of(model.value(), 3)) == expected);
  }
}

TEST_CASE("The account counts what is read from storage", "[memory]") {
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
  const ComponentBytes& rows = model->weights().account().at(Component::Embedding);
  CHECK(rows.hits == 3);
  CHECK(rows.misses == 6);
  CHECK(rows.read == 6 * codec_traits(Codec::I8Row).unit_bytes(options.n_embd));
  CHECK(model->weights().account().at(Component::Neurons).read > 0);
}

TEST_CASE("Storage that fails is reported, and the model goes on when it is back", "[memory]") {
  const test::ScratchFolder folder;
  const std::string path = test::write_tiny_model(folder, {.codec = Codec::I8Row});
  for (const MemoryMode mode : {MemoryMode::Sparse, MemoryMode::Layerwise}) {
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

TEST_CASE("Heads whose order makes no sense are refused", "[memory]") {
  const test::ScratchFolder folder;
  TinyModelOptions options;
  options.n_cluster = 5;
  const std::string path = test::write_tiny_model(folder, options);
  const auto good = PackedFile::open(path);
  REQUIRE_OK(good.status());
  std::vector<std::byte> bytes = test::read_bytes(path);
  const auto set = [&](const char* name, size_t index, float value) {
    for (const PackedTensor& tensor : good.value().tensors) {
      if (tensor.name == name) {
        std::memcpy(bytes.data() + tensor.offset + index * sizeof(float), &value, sizeof(float));
      }
    }
  };
  const auto refusal = [&] {
    const std::string broken = folder.file("broken.gguf");
    test::write_bytes(broken, bytes);
    const Status status = Model::open(broken).status();
    bytes = test::read_bytes(path);
    CHECK(status.code() == Code::BadInput);
    return status.message();
  };
  set("head.tokens", 3, 1e9f);
  CHECK_THAT(refusal(), Catch::Contains("head.tokens"));
  set("head.tokens", 3, 0.5f);
  CHECK_THAT(refusal(), Catch::Contains("whole numbers"));
  set("head.tokens", 3, std::nanf(""));
  CHECK_THAT(refusal(), Catch::Contains("head.tokens"));
  set("head.tokens", 3, 0.0f);
  CHECK_THAT(refusal(), Catch::Contains("twice"));
  set("head.cluster.first", 0, 1.0f);
  CHECK_THAT(refusal(), Catch::Contains("head.cluster.first"));
  set("head.cluster.first", 2, 0.0f);
  CHECK_THAT(refusal(), Catch::Contains("ascend"));
}

}  // namespace
}  // namespace rwkv::edge
