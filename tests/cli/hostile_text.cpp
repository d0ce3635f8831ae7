// Text of files on terminals: names, metadata, messages and what a model writes cannot send escape
// sequences.
#include "formats/container/gguf_writer.h"
#include "tests/cli/run.h"
#include "tests/cli/terminal.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Arguments = std::vector<std::string>;

// Colour, title of the window, clipboard, C1, right to left, an end of line.
const std::string kHostile =
    "\x1b[31mred\x1b]0;title\x07\x1b]52;c;QUJD\x07\xc2\x9b"
    "2J\xe2\x80\xae"
    "gnp\r\n";

bool is_harmless(const std::string& text) {
  return text.find_first_of(std::string("\x1b\x07\r\x7f", 4)) == std::string::npos &&
         text.find("\xc2\x9b") == std::string::npos &&
         text.find("\xe2\x80\xae") == std::string::npos;
}

void check_harmless(const std::string& program, const Arguments& arguments,
                    const std::string& says) {
  const RunResult result = run(program, arguments);
  CAPTURE(program, arguments, result.out, result.err);
  CHECK(is_harmless(result.out));
  CHECK(is_harmless(result.err));
  CHECK_THAT(result.out + result.err, Contains(says));
}

std::string hostile_gguf(const ScratchFolder& scratch) {
  GgufMetadata metadata;
  metadata.set("general.architecture", GgufValue::string(kHostile));
  metadata.set(kHostile + ".key", GgufValue::string(kHostile));
  const std::string path = scratch.file("hostile" + kHostile + ".gguf");
  auto writer = GgufWriter::create(path, OutputFile::Existing::Refuse, metadata,
                                   {{kHostile + "weight", GgmlType::F32, {1}, 4}});
  REQUIRE_OK(writer.status());
  REQUIRE_OK(writer.value()->append(std::vector<std::byte>(4)));
  REQUIRE_OK(writer.value()->finish());
  return path;
}

/// A packed model whose tokens are all bytes, so that it writes every control character.
std::string model_of_bytes(const ScratchFolder& scratch) {
  TinyModelOptions options;
  options.vocabulary = TinyVocabulary::Bytes;
  options.n_vocab = 256;
  return write_tiny_model(scratch, options, "bytes.gguf");
}

}  // namespace

TEST_CASE("Names and metadata of a file cannot steer a terminal", "[cli]") {
  const ScratchFolder scratch;
  const std::string path = hostile_gguf(scratch);
  check_harmless("rwkv-edge", {"inspect", path}, "\\x1b[31mred");
  check_harmless("rwkv-edge", {"inspect", path, "--json"}, "\\u001b[31mred");
  check_harmless("rwkv-edge", {"generate", path, "-p", "a"}, "error: ");
  check_harmless("rwkv-edge", {"generate", scratch.file(kHostile), "-p", "a"}, "\\x1b[31mred");
  check_harmless("rwkv-edge", {"generate", path, "--" + kHostile}, "\\u{202e}gnp");
  // The tables show each name on one line.
  const std::string shown = run("rwkv-edge", {"inspect", path}).out;
  CHECK_THAT(shown, Contains("gnp\\r\\nweight"));
}

TEST_CASE("What a model writes cannot steer a terminal, and a pipe gets it unchanged", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = model_of_bytes(scratch);
  const Arguments generate = {"generate", model,     "-p",     "a", "-n",      "600", "--seed",
                              "1",        "--quiet", "--temp", "9", "--top-p", "1"};
  const RunResult piped = run("rwkv-edge", generate);
  REQUIRE(piped.exit_code == 0);
  REQUIRE(piped.out.find('\x1b') != std::string::npos);
  Terminal terminal(generate);
  REQUIRE(terminal.wait() == 0);
  std::string screen = terminal.screen();
  // The terminal itself ends lines with CR and LF.
  for (size_t at = screen.find("\r\n"); at != std::string::npos; at = screen.find("\r\n")) {
    screen.erase(at, 1);
  }
  CAPTURE(screen);
  CHECK(is_harmless(screen));
  CHECK_THAT(screen, Contains("\\x1b"));

  const std::string ids = scratch.file("ids");
  write_text(ids, "27 91 50 74 9 10");
  CHECK(run("rwkv-edge", {"detokenize", model, "--ids", ids}).out == "\x1b[2J\t\n");
}

#ifdef RWKV_WITH_PRESS
TEST_CASE("Checkpoints, recipes and vocabularies cannot steer a terminal", "[cli]") {
  const ScratchFolder scratch;
  const std::string path = hostile_gguf(scratch);
  check_harmless("rwkv-press", {"inspect", path}, "\\x1b[31mred");
  check_harmless("rwkv-press", {"convert", path, "-o", scratch.file("out.gguf")}, "error: ");

  const std::string checkpoint = scratch.file("m" + kHostile + ".pth");
  const RunResult made = run("rwkv-press", {"synth", "--arch", "v6", "--n-layer", "1", "--n-embd",
                                            "64", "--n-vocab", "300", "-o", checkpoint});
  CAPTURE(made.err);
  REQUIRE(made.exit_code == 0);
  CHECK(is_harmless(made.out));
  const std::string recipe = scratch.file("recipe.yaml");
  write_text(recipe, "name: \"\\e[31m\\u202e\"\nstages:\n  - quantize: {codec: i8_row}\n");
  check_harmless("rwkv-press", {"plan", checkpoint, "--recipe", recipe}, "\\x1b[31mred");
  const std::string packed = scratch.file("packed.gguf");
  check_harmless("rwkv-press", {"convert", checkpoint, "-o", packed, "--recipe", recipe}, "packed");
  check_harmless("rwkv-press", {"inspect", packed, "--metadata"}, "recipe ");
  check_harmless("rwkv-edge", {"inspect", packed, "--metadata"}, "recipe ");
  write_text(recipe, "name: a\n\"\\e[31m\": 1\n");
  check_harmless("rwkv-press", {"plan", checkpoint, "--recipe", recipe}, "\\x1b[31m");
  const std::string vocabulary = scratch.file("vocab.txt");
  write_text(vocabulary, "1 '" + kHostile + "' 3\n");
  check_harmless("rwkv-press",
                 {"convert", checkpoint, "-o", packed, "--vocab", vocabulary, "--force"},
                 "error: ");
}
#endif
