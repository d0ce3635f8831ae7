// Files of states: what was saved goes on with the same bits; tuned states, in a model and alone.
#include "runtime/model/state_file.h"

#include <cstring>
#include <functional>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/container/safetensors_writer.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

constexpr auto kReplace = OutputFile::Existing::Replace;

// A file of tuned states; value(block, index) in the order of a checkpoint, [head][value][key].
void write_tuned(const std::string& path, const ModelConfig& config,
                 const std::function<float(size_t block, size_t index)>& value) {
  std::vector<TensorInfo> infos;
  for (size_t block = 0; block < config.n_layer; ++block) {
    infos.push_back({fmt::format("blocks.{}.att.time_state", block),
                     DType::F32,
                     {config.n_head, config.head_size, config.head_size}});
  }
  const auto read = [&](size_t block, std::vector<std::byte>& out) -> Status {
    std::vector<float> values(config.wkv_floats());
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = value(block, i);
    }
    const auto bytes = std::as_bytes(std::span(values));
    out.assign(bytes.begin(), bytes.end());
    return {};
  };
  REQUIRE_OK(write_safetensors(path, kReplace, infos, read));
}

std::vector<uint32_t> logits_after(const std::shared_ptr<const Model>& model, size_t n) {
  const auto session = make_session(model);
  REQUIRE_OK(session->feed_tokens(prompt_of(n)));
  return bits_of(session->logits());
}

std::vector<Version> tuned_versions() {
  return {Version::V5_2, Version::V6, Version::V7, Version::V7a};
}

TEST_CASE("A text goes on from a state file as if it had never ended", "[state_file]") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("chat.state");
  for (const test::TinyModelOptions& options : test::all_tiny_models()) {
    const auto model = open_tiny(options);
    INFO(version_label(model->config()));
    const auto session = make_session(model);
    REQUIRE_OK(session->feed_tokens(prompt_of(30)));
    REQUIRE_OK(session->save_state_file(path, kReplace, "what was said"));
    const auto other = make_session(model);
    REQUIRE_OK(other->feed_tokens(prompt_of(3)));
    auto history = other->load_state_file(path);
    REQUIRE_OK(history.status());
    CHECK(history.value() == "what was said");
    // The logits came with it, so nothing need be fed.
    CHECK(bits_of(other->logits()) == bits_of(session->logits()));
    CHECK(generate(*other, 12).tokens == generate(*session, 12).tokens);
    CHECK(bits_of(other->logits()) == bits_of(session->logits()));
  }
  CHECK(folder.entries() == std::vector<std::string>{"chat.state"});
}

TEST_CASE("A model opened with a state begins every text with it", "[state_file]") {
  const test::ScratchFolder folder;
  const std::string path = test::write_tiny_model(folder);
  const std::string state = folder.file("begin.state");
  auto plain = Model::open(path);
  REQUIRE_OK(plain.status());
  const auto session = make_session(plain.value());
  REQUIRE_OK(session->feed_tokens(prompt_of(20)));
  REQUIRE_OK(session->save_state_file(state, kReplace));
  REQUIRE_OK(session->feed_tokens(prompt_of(5)));

  MemoryOptions options;
  auto begun = Model::open(path, options, state);
  REQUIRE_OK(begun.status());
  const auto other = make_session(begun.value());
  CHECK(other->can_generate().ok());
  REQUIRE_OK(other->feed_tokens(prompt_of(5)));
  CHECK(bits_of(other->logits()) == bits_of(session->logits()));
  other->reset();
  REQUIRE_OK(other->feed_tokens(prompt_of(5)));
  CHECK(bits_of(other->logits()) == bits_of(session->logits()));
  // It is held beside those of sessions.
  const auto bytes_of_states = [](const Model& model) {
    return model.weights().account().at(Component::State).resident;
  };
  CHECK(bytes_of_states(*begun.value()) == 2 * bytes_of_states(*plain.value()));
}

TEST_CASE("A state of zeros is the plain model, bit by bit", "[state_file]") {
  const test::ScratchFolder folder;
  const std::string state = folder.file("zeros.safetensors");
  for (const Version version : tuned_versions()) {
    const std::string path = test::write_tiny_model(
        folder, {.version = version}, fmt::format("{}.gguf", static_cast<int>(version)));
    auto plain = Model::open(path);
    REQUIRE_OK(plain.status());
    write_tuned(state, plain.value()->config(), [](size_t, size_t) { return 0.0f; });
    auto tuned = Model::open(path, {}, state);
    REQUIRE_OK(tuned.status());
    CHECK(logits_after(tuned.value(), 9) == logits_after(plain.value(), 9));
    write_tuned(state, plain.value()->config(),
                [](size_t block, size_t i) { return test::noise(block, i); });
    auto other = Model::open(path, {}, state);
    REQUIRE_OK(other.status());
    CHECK(logits_after(other.value(), 9) != logits_after(plain.value(), 9));
  }
}

TEST_CASE("A tuned state is the same in the model and alone, in every memory mode",
          "[state_file]") {
  const test::ScratchFolder folder;
  const std::string state = folder.file("tuned.safetensors");
  for (const Version version : tuned_versions()) {
    const auto name = fmt::format("{}.gguf", static_cast<int>(version));
    const test::TinyModelOptions options = {.version = version, .initial_state = true};
    const std::string path = test::write_tiny_model(folder, options, name);
    const std::string plain = test::write_tiny_model(folder, {.version = version}, "plain-" + name);
    auto merged = Model::open(path);
    REQUIRE_OK(merged.status());
    INFO(version_label(merged.value()->config()));
    const auto expected = logits_after(merged.value(), 9);
    for (const ModeTraits& mode : mode_list()) {
      MemoryOptions memory;
      memory.mode = mode.mode;
      auto opened = Model::open(path, memory);
      REQUIRE_OK(opened.status());
      CHECK(logits_after(opened.value(), 9) == expected);
    }
    // What the model packs is [head][key][value] before v7, in a checkpoint it is [value][key].
    const ModelConfig& config = merged.value()->config();
    const size_t n = config.head_size;
    const bool is_turned = !is_v7(version);
    write_tuned(state, config, [&](size_t block, size_t i) {
      const auto packed =
          merged.value()->weights().read_vector(fmt::format("blocks.{}.att.time_state", block));
      REQUIRE_OK(packed.status());
      const size_t turned = (i / (n * n) * n + i % n) * n + i / n % n;
      return packed.value()[is_turned ? turned : i];
    });
    auto alone = Model::open(plain, {}, state);
    REQUIRE_OK(alone.status());
    CHECK(logits_after(alone.value(), 9) == expected);
    // A session that forgets its text remembers what it was tuned to.
    const auto session = make_session(merged.value());
    REQUIRE_OK(session->feed_tokens(prompt_of(4)));
    session->reset();
    REQUIRE_OK(session->feed_tokens(prompt_of(9)));
    CHECK(bits_of(session->logits()) == expected);
  }
}

TEST_CASE("State files that are damaged or of another model are refused by name", "[state_file]") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("s.state");
  const auto model = open_tiny({.version = Version::V6});
  const auto session = make_session(model);
  REQUIRE_OK(session->feed_tokens(prompt_of(8)));
  REQUIRE_OK(session->save_state_file(path, kReplace, "history"));
  const std::vector<std::byte> good = test::read_bytes(path);
  const auto logits = bits_of(session->logits());
  const auto refusal = [&](Session& into) {
    const Status status = into.load_state_file(path).status();
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains(path));
    return status.message();
  };
  size_t n_accepted = 0;
  for (size_t i = 0; i < good.size(); i += i < 128 ? 1 : 97) {
    std::vector<std::byte> bad = good;
    bad[i] ^= std::byte{0x41};
    test::write_bytes(path, bad);
    n_accepted += session->load_state_file(path).ok() ? 1u : 0u;
  }
  CHECK(n_accepted == 0);
  for (const size_t n : {size_t{0}, size_t{7}, size_t{60}, good.size() - 1}) {
    test::write_bytes(path, std::span(good).first(n));
    refusal(*session);
  }
  // Sizes that a file claims and does not have decide no allocation.
  std::vector<std::byte> huge = good;
  store_le<uint64_t>(huge.data() + 96, uint64_t{1} << 62);
  store_le<uint64_t>(huge.data() + 8, xxh64(std::span(huge).subspan(16)));
  test::write_bytes(path, huge);
  CHECK_THAT(refusal(*session), Catch::Contains("damaged"));
  std::vector<std::byte> infinite = good;
  store_le<float>(infinite.data() + 104, INFINITY);
  store_le<uint64_t>(infinite.data() + 8, xxh64(std::span(infinite).subspan(16)));
  test::write_bytes(path, infinite);
  CHECK_THAT(refusal(*session), Catch::Contains("not finite"));
  CHECK(bits_of(session->logits()) == logits);

  test::write_bytes(path, good);
  const auto other_version = make_session(open_tiny({.version = Version::V7}));
  CHECK_THAT(refusal(*other_version), Catch::Contains("expected v7, 2 layers x 72") &&
                                          Catch::Contains("found v6, 2 layers x 72"));
  const auto other_weights = make_session(open_tiny({.version = Version::V6, .seed = 2}));
  CHECK_THAT(refusal(*other_weights), Catch::Contains("other weights"));

  test::write_text(path, "PK\3\4 and so on, longer than a head");
  CHECK_THAT(refusal(*session), Catch::Contains("rwkv-press export"));
  test::write_text(path, "something else that is no state");
  CHECK_THAT(refusal(*session), Catch::Contains("of another kind"));
  const std::string long_history(kMaxHistoryBytes + 1, 'x');
  CHECK(session->save_state_file(path, kReplace, long_history).code() == Code::Usage);
}

TEST_CASE("Tuned states of another model are refused by name", "[state_file]") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("s.safetensors");
  const auto model = open_tiny({.version = Version::V7});
  const auto session = make_session(model);
  const auto refusal = [&](Session& into) {
    const Status status = into.load_state_file(path).status();
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains(path));
    return status.message();
  };
  const auto zero = [](size_t, size_t) { return 0.0f; };
  ModelConfig config = model->config();
  config.n_layer = 1;
  write_tuned(path, config, zero);
  CHECK_THAT(refusal(*session), Catch::Contains("'blocks.1.att.time_state' is missing"));
  config.n_layer = 3;
  write_tuned(path, config, zero);
  CHECK_THAT(refusal(*session), Catch::Contains("blocks.2.") && Catch::Contains("another model"));
  config = model->config();
  config.n_head = 4;
  write_tuned(path, config, zero);
  CHECK_THAT(refusal(*session), Catch::Contains("4x24x24") && Catch::Contains("3x24x24"));
  write_tuned(path, model->config(),
              [](size_t block, size_t i) { return block == 1 && i == 5 ? NAN : 0.0f; });
  CHECK_THAT(refusal(*session), Catch::Contains("not finite"));
  write_tuned(path, model->config(), zero);
  const auto old = make_session(open_tiny({.version = Version::V4}));
  CHECK_THAT(refusal(*old), Catch::Contains("v4 models have no tuned states"));
  const std::vector<TensorInfo> infos = {{"emb.weight", DType::F32, {2, 2}}};
  REQUIRE_OK(write_safetensors(path, kReplace, infos, [](size_t, std::vector<std::byte>& out) {
    out.assign(16, std::byte{0});
    return Status();
  }));
  CHECK_THAT(refusal(*session), Catch::Contains("'emb.weight'") && Catch::Contains("rwkv-press"));
}

}  // namespace
}  // namespace rwkv::edge
