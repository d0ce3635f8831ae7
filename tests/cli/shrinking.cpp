// Files that become shorter while a program uses them: it says which file that was, and ends as for
// any other failure.
#include <filesystem>

#include "tests/cli/run.h"
#include "tests/cli/terminal.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"
#ifdef RWKV_WITH_PRESS
#include "tests/cli/process.h"
#endif

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

TEST_CASE("A packed file cut while generating is named, in every mode", "[cli]") {
  for (const std::string mode : {"full", "windowed", "sparse", "streamed", "layerwise"}) {
    CAPTURE(mode);
    const ScratchFolder scratch;
    // With rows on demand, more than a cache holds, and no token that ends a text.
    const std::string model = write_tiny_model(scratch, {.version = Version::V5_2,
                                                         .codec = Codec::I8Row,
                                                         .vocabulary = TinyVocabulary::ZeroBased,
                                                         .sign_predictor = true,
                                                         .n_cluster = 12});
    Terminal terminal(
        {"generate", model, "--ids", "-p", "1 2 3", "-n", "1000000", "--memory", mode, "--quiet"});
    REQUIRE(terminal.shows(" "));
    std::filesystem::resize_file(model, 0);
    const int code = terminal.wait();
    CAPTURE(terminal.screen());
    CHECK(code == 1);
    CHECK_THAT(terminal.screen(),
               Contains("rwkv-edge: error: " + model) && Contains("became shorter"));
  }
}

#ifdef RWKV_WITH_PRESS
namespace {

// Whether some of an output is written, after its input was opened.
bool has_begun(const ScratchFolder& scratch) {
  for (const auto& entry : std::filesystem::directory_iterator(scratch.path())) {
    std::error_code gone;
    if (entry.path().string().find("unfinished") != std::string::npos &&
        entry.file_size(gone) > 0 && !gone) {
      return true;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("A checkpoint cut while it is converted is named, and no output stays", "[cli]") {
  const ScratchFolder scratch;
  const std::string checkpoint = scratch.file("m.pth");
  const std::string packed = scratch.file("m.gguf");
  REQUIRE(run("rwkv-press", {"synth", "--arch", "v6", "--n-layer", "6", "--n-embd", "512",
                             "--n-vocab", "8192", "--quiet", "-o", checkpoint})
              .exit_code == 0);
  REQUIRE(run("rwkv-press", {"convert", checkpoint, "-o", packed, "--preset", "fp32", "--quiet"})
              .exit_code == 0);
  // One that is mapped, and one that is read.
  for (const std::string& input : {packed, checkpoint}) {
    CAPTURE(input);
    const std::string output = scratch.file("out.gguf");
    Process process(scratch, "convert",
                    {"convert", input, "-o", output, "--preset", "int8", "--quiet"});
    REQUIRE(wait_until([&] { return has_begun(scratch); }));
    std::filesystem::resize_file(input, 4096);
    const RunResult result = process.wait();
    CAPTURE(process.text());
    CHECK(result.exit_code == 1);
    CHECK_THAT(process.text(),
               Contains("rwkv-press: error: ") && Contains(input) && Contains("became shorter"));
    CHECK_FALSE(std::filesystem::exists(output));
    for (const std::string& entry : scratch.entries()) {
      CHECK_THAT(entry, !Contains("unfinished"));
    }
  }
}
#endif
