// Writes the models that c_api.c runs.
#include <cstdio>
#include <exception>

#include "tests/support/tiny_model.h"

extern "C" int test_c_api(const char* model, const char* model_without_vocabulary,
                          const char* not_a_model, const char* no_file);

int main() {
  using namespace rwkv::test;
  try {
    const ScratchFolder folder;
    const std::string model = write_tiny_model(folder, {}, "world.gguf");
    const std::string mute =
        write_tiny_model(folder, {.vocabulary = TinyVocabulary::None}, "mute.gguf");
    write_text(folder.file("text"), "not a model");
    return test_c_api(model.c_str(), mute.c_str(), folder.file("text").c_str(),
                      folder.file("nothing").c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
