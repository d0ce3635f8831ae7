// Writes the models that c_api.c runs, and does what C cannot: threads, exceptions.
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>

#include "rwkv_edge.h"
#include "tests/support/tiny_model.h"

extern "C" int test_c_api(const char* model, const char* model_without_vocabulary,
                          const char* not_a_model, const char* no_file);

namespace {

void require(bool condition, const char* what) {
  if (!condition) {
    throw std::runtime_error(what);
  }
}

/// Texts of failures belong to their thread.
void test_errors_of_threads() {
  std::thread failing([] {
    rwkv_model* model = nullptr;
    rwkv_model_open(nullptr, &model);
    require(std::string(rwkv_last_error()).find("path") != std::string::npos, "no text of failure");
  });
  failing.join();
  require(std::string(rwkv_last_error()).empty(), "another thread's failure was seen");
}

/// What a callback throws ends at the boundary; the session stays usable.
void test_throwing_callback(const std::string& path) {
  rwkv_model* model = nullptr;
  rwkv_session* session = nullptr;
  require(rwkv_model_open(path.c_str(), &model) == RWKV_OK, "open");
  require(rwkv_session_new(model, 1, &session) == RWKV_OK, "session");
  require(rwkv_eval_text(session, "a", 1) == RWKV_OK, "eval");
  const auto throws = [](void*, int32_t, const char*, size_t) -> int {
    throw std::runtime_error("from the callback");
  };
  const auto throws_number = [](void*, int32_t, const char*, size_t) -> int { throw 5; };
  const auto counts = [](void* n, int32_t, const char*, size_t) -> int {
    ++*static_cast<int*>(n);
    return 0;
  };
  require(rwkv_generate(session, nullptr, 5, throws, nullptr, nullptr) == RWKV_FAILED, "throw");
  require(std::string(rwkv_last_error()).find("from the callback") != std::string::npos, "text");
  require(rwkv_generate(session, nullptr, 5, throws_number, nullptr, nullptr) == RWKV_FAILED,
          "throw of a number");
  rwkv_sampler_options greedy = rwkv_sampler_default();
  greedy.temperature = 0.0f;
  int n = 0;
  require(rwkv_generate(session, &greedy, 2, counts, &n, nullptr) == RWKV_OK && n >= 1, "again");
  rwkv_session_free(session);
  rwkv_model_free(model);
}

}  // namespace

int main() {
  using namespace rwkv::test;
  try {
    const ScratchFolder folder;
    const std::string model = write_tiny_model(folder, {}, "world.gguf");
    const std::string mute =
        write_tiny_model(folder, {.vocabulary = TinyVocabulary::None}, "mute.gguf");
    write_text(folder.file("text"), "not a model");
    test_errors_of_threads();
    const int result = test_c_api(model.c_str(), mute.c_str(), folder.file("text").c_str(),
                                  folder.file("nothing").c_str());
    test_throwing_callback(model);
    return result;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
