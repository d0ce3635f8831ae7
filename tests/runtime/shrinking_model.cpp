// A packed file that becomes shorter while its model runs: the modes that read it report a failure
// or do not need it any more; the modes that map it (full, windowed) are tested from outside, since
// there the system ends the process (tests/cli/shrinking.cpp).
#include <filesystem>

#include "rwkv_edge.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

using Catch::Contains;

// With rows on demand of every kind, and no cache that could hold all of them.
std::string write_model(const test::ScratchFolder& folder) {
  return test::write_tiny_model(
      folder,
      {.version = Version::V5_2, .codec = Codec::I8Row, .sign_predictor = true, .n_cluster = 12});
}

MemoryOptions with_small_caches(MemoryMode mode) {
  MemoryOptions options;
  options.mode = mode;
  options.neuron_cache = 0.0;
  options.head_cache = 0.0;
  options.embedding_rows = 1;
  return options;
}

std::vector<float> logits_after(Evaluator& evaluator, const std::vector<int32_t>& tokens,
                                Status& status) {
  State state = evaluator.model().empty_state();
  std::vector<float> logits(evaluator.model().config().n_vocab);
  status = evaluator.forward(tokens, state, Logits::Last, logits);
  return logits;
}

}  // namespace

TEST_CASE("A file that becomes shorter is a failure in the modes that read it", "[shrinking]") {
  const test::ScratchFolder folder;
  const std::vector<int32_t> tokens = prompt_of(20);
  for (const MemoryMode mode : {MemoryMode::Sparse, MemoryMode::Streamed, MemoryMode::Layerwise}) {
    CAPTURE(mode_traits(mode).name);
    const std::string path = write_model(folder);
    const std::vector<std::byte> whole = test::read_bytes(path);
    const auto model = Model::open(path, with_small_caches(mode));
    REQUIRE_OK(model.status());
    Evaluator evaluator(model.value(), {.n_threads = 2});
    Status status;
    const std::vector<float> before = logits_after(evaluator, tokens, status);
    REQUIRE_OK(status);

    std::filesystem::resize_file(path, 4096);
    logits_after(evaluator, tokens, status);
    CHECK(status.code() == Code::Failed);
    CHECK_THAT(status.message(), Contains(path) && Contains("became shorter"));

    // The same model goes on when the file is there again.
    std::filesystem::resize_file(path, whole.size());
    test::write_bytes(path, whole);
    const std::vector<float> after = logits_after(evaluator, tokens, status);
    REQUIRE_OK(status);
    CHECK(bits_of(after) == bits_of(before));
    std::filesystem::remove(path);
  }
}

TEST_CASE("A loaded model does not need its file", "[shrinking]") {
  const test::ScratchFolder folder;
  const std::string path = write_model(folder);
  const auto model = Model::open(path, with_small_caches(MemoryMode::Loaded));
  REQUIRE_OK(model.status());
  Evaluator evaluator(model.value(), {});
  Status status;
  const std::vector<float> before = logits_after(evaluator, prompt_of(20), status);
  std::filesystem::resize_file(path, 0);
  const std::vector<float> after = logits_after(evaluator, prompt_of(20), status);
  REQUIRE_OK(status);
  CHECK(bits_of(after) == bits_of(before));
}

TEST_CASE("The C API reports a file that became shorter", "[shrinking]") {
  const test::ScratchFolder folder;
  const std::string path = write_model(folder);
  rwkv_model* model = nullptr;
  REQUIRE(rwkv_model_open_within(path.c_str(), RWKV_MEMORY_LAYERWISE, 0, &model) == RWKV_OK);
  rwkv_session* session = nullptr;
  REQUIRE(rwkv_session_new(model, 1, &session) == RWKV_OK);
  const std::vector<int32_t> tokens = prompt_of(20);
  REQUIRE(rwkv_eval(session, tokens.data(), tokens.size()) == RWKV_OK);
  // Cut during decoding.
  struct Cut {
    const std::string& path;
    size_t n_tokens = 0;
  } cut = {path};
  const auto on_piece = [](void* user, int32_t, const char*, size_t) {
    auto& at = *static_cast<Cut*>(user);
    if (++at.n_tokens == 3) {
      std::filesystem::resize_file(at.path, 4096);
    }
    return 0;
  };
  CHECK(rwkv_generate(session, nullptr, 1000, on_piece, &cut, nullptr) == RWKV_FAILED);
  CHECK_THAT(rwkv_last_error(), Contains("became shorter"));
  CHECK(cut.n_tokens >= 3);
  CHECK(cut.n_tokens < 1000);
  rwkv_session_free(session);
  rwkv_model_free(model);
  // And while it is opened.
  for (const rwkv_memory_mode mode :
       {RWKV_MEMORY_SPARSE, RWKV_MEMORY_LAYERWISE, RWKV_MEMORY_LOADED, RWKV_MEMORY_ANY}) {
    CHECK(rwkv_model_open_within(path.c_str(), mode, 0, &model) == RWKV_BAD_INPUT);
  }
}

}  // namespace rwkv::edge
