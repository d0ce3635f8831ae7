// What rwkv-edge refuses: one line that says why, the documented exit code, no half-written file.
#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/cli/run.h"
#include "tests/support/tiny_model.h"

namespace rwkv::test {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kBadInput = 3;

struct Refusal {
  std::vector<std::string> arguments;
  int exit_code;
  std::vector<std::string> message;
};

void check_all(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    check_refused(edge(refusal.arguments), refusal.exit_code, refusal.message);
  }
}

TEST_CASE("edge: files that are no models are refused", "[cli]") {
  const ScratchFolder folder;
  write_text(folder.file("empty"), "");
  write_text(folder.file("text"), "This is not a model, it is a letter.\n");
  std::string garbage;
  for (uint64_t i = 0; i < 5000; ++i) {
    garbage += static_cast<char>(static_cast<int>(noise(3, i) * 128));
  }
  write_text(folder.file("garbage"), garbage);
  write_text(folder.file("magic"), "GGUF" + garbage);
  write_text(folder.file("input"), "some text");
  const std::vector<std::string> names = {"missing", "empty", "text", "garbage", "magic"};
  for (const std::string& name : names) {
    const std::string path = folder.file(name);
    const std::vector<std::string> message = {path};
    check_all({{{"inspect", path}, kBadInput, message},
               {{"inspect", path, "--verify", "--json"}, kBadInput, message},
               {{"generate", path, "-p", "x"}, kBadInput, message},
               {{"perplexity", path, "--text", folder.file("input")}, kBadInput, message},
               {{"tokenize", path, "--text", folder.file("input")}, kBadInput, message},
               {{"bench", path}, kBadInput, message},
               {{"logits", path, "--tokens", path, "-o", folder.file("out")}, kBadInput, message}});
  }
  check_all({{{"inspect", folder.path().string()}, kBadInput, {"directory"}},
             {{"generate", folder.path().string(), "-p", "x"}, kBadInput, {"directory"}},
             {{"inspect", "/dev/null"}, kBadInput, {"not a regular file"}},
             {{"inspect", folder.file("text") + "/below"}, kBadInput, {"below"}},
             {{"inspect", folder.file("new\nline")}, kBadInput, {"cannot open"}}});
  CHECK(folder.entries() == std::vector<std::string>{"empty", "garbage", "input", "magic", "text"});
}

TEST_CASE("edge: mistakes on the command line are refused", "[cli]") {
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder);
  const auto generate = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"generate", model, "-n", "2"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  check_all({
      {{}, kUsage, {"command"}},
      {{"generat", model}, kUsage, {"'generat'", "'generate'"}},
      {{"zzzzzzzzzz"}, kUsage, {"'zzzzzzzzzz'", "generate", "inspect"}},
      {{"generate"}, kUsage, {"--prompt"}},
      {{"generate", "-p", "x"}, kUsage, {"model"}},
      {{"inspect"}, kUsage, {"model"}},
      {{"inspect", model, "another"}, kUsage, {"'another'"}},
      {{"inspect", model, "--jsn"}, kUsage, {"--jsn", "--json"}},
      {{"bench", model, "--thread=2"}, kUsage, {"--thread'", "--threads"}},
      {{"bench", model, "-x"}, kUsage, {"x"}},
      {{"bench", model, "--runs"}, kUsage, {"runs"}},
      {{"bench", model, "-n", "0"}, kUsage, {"-n", "'0'"}},
      {{"bench", model, "-t", "1,0"}, kUsage, {"threads"}},
      {{"bench", model, "-t", "1,x"}, kUsage, {"1,x"}},
      {{"bench", model, "-t", ""}, kUsage, {"threads"}},
      {generate({}), kUsage, {"--prompt", "--file"}},
      {generate({"-p", "x", "-f", model}), kUsage, {"--prompt", "--file"}},
      {generate({"-p", ""}), kUsage, {"empty"}},
      {generate({"-p", "x", "-t", "0"}), kUsage, {"--threads", "'0'"}},
      {generate({"-p", "x", "-t", "1000"}), kUsage, {"--threads", "'1000'"}},
      {generate({"-p", "x", "-t", "many"}), kUsage, {"--threads", "'many'"}},
      {generate({"-p", "x", "--temp", "nan"}), kUsage, {"--temp", "'nan'"}},
      {generate({"-p", "x", "--temp", "-1"}), kUsage, {"--temp"}},
      {generate({"-p", "x", "--temp", "inf"}), kUsage, {"--temp"}},
      {generate({"-p", "x", "--temp", "1.0x"}), kUsage, {"--temp", "'1.0x'"}},
      {generate({"-p", "x", "--top-p", "2"}), kUsage, {"--top-p", "'2'"}},
      {generate({"-p", "x", "--top-k", "-3"}), kUsage, {"--top-k"}},
      {generate({"-p", "x", "--seed", "-1"}), kUsage, {"--seed"}},
      {generate({"-p", "x", "--seed", "99999999999999999999"}), kUsage, {"--seed"}},
      {{"generate", model, "-p", "x", "-n", "-1"}, kUsage, {"-n", "'-1'"}},
      {generate({"--ids", "-p", "1 two 3"}), kUsage, {"1 two 3"}},
      {generate({"--ids", "-p", "1\n2\nx"}), kUsage, {"ids"}},
      {generate({"--ids", "-p", "-5"}), kUsage, {"-5"}},
      {generate({"--ids", "-p", "99999999999"}), kUsage, {"99999999999"}},
      {generate({"--ids", "-p", "  "}), kUsage, {"no token ids"}},
      {generate({"--ids", "-p", ""}), kUsage, {"no token ids"}},
      {generate({"--ids", "-p", "1 300"}), kBadInput, {"300", "299"}},
      {{"perplexity", model}, kUsage, {"text"}},
      {{"tokenize", model}, kUsage, {"text"}},
      {{"detokenize", model}, kUsage, {"ids"}},
      {{"logits", model, "-o", folder.file("out")}, kUsage, {"tokens"}},
      {{"logits", model, "--tokens", model}, kUsage, {"output"}},
  });
  CHECK(folder.entries() == std::vector<std::string>{"tiny.gguf"});
}

TEST_CASE("edge: texts and ids that do not fit are refused", "[cli]") {
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder);
  const std::string mute =
      write_tiny_model(folder, {.vocabulary = TinyVocabulary::None}, "mute.gguf");
  write_text(folder.file("empty"), "");
  write_text(folder.file("short"), "a");
  write_text(folder.file("long"), "a longer text");
  write_text(folder.file("odd"), std::string("\x01\0\0\0\x02", 5));
  write_text(folder.file("large"), std::string("\x01\0\0\0\xff\xff\0\0", 8));
  write_text(folder.file("negative"), std::string("\xff\xff\xff\xff", 4));
  write_text(folder.file("ids"), "1 2 300");
  write_text(folder.file("no_ids"), "1 2\nthree \x01 \xff");
  const std::vector<std::string> before = folder.entries();
  const auto logits = [&](const char* tokens) {
    return std::vector<std::string>{"logits",          model, "--tokens", folder.file(tokens), "-o",
                                    folder.file("out")};
  };
  check_all({
      {{"perplexity", model, "--text", folder.file("empty")}, kBadInput, {"empty", "0 tokens"}},
      {{"perplexity", model, "--text", folder.file("short")}, kBadInput, {"short", "1 tokens"}},
      {{"perplexity", model, "--text", folder.file("nowhere")}, kBadInput, {"nowhere"}},
      {{"perplexity", model, "--text", folder.path().string()}, kBadInput, {"directory"}},
      {{"perplexity", model, "--text", folder.file("long"), "--max-tokens", "1"},
       kUsage,
       {"--max-tokens"}},
      {{"tokenize", model, "--text", folder.file("nowhere")}, kBadInput, {"nowhere"}},
      {{"detokenize", model, "--ids", folder.file("ids")}, kBadInput, {"300"}},
      {{"detokenize", model, "--ids", folder.file("no_ids")}, kBadInput, {"no_ids"}},
      {{"detokenize", model, "--ids", model}, kBadInput, {"tiny.gguf"}},
      {{"generate", model, "-f", folder.file("empty")}, kUsage, {"empty"}},
      // Without a vocabulary: text is refused with what to do instead.
      {{"generate", mute, "-p", "x"}, kUsage, {"vocabulary", "--ids"}},
      {{"perplexity", mute, "--text", folder.file("long")}, kUsage, {"vocabulary"}},
      {{"tokenize", mute, "--text", folder.file("long")}, kUsage, {"vocabulary"}},
      {{"detokenize", mute, "--ids", folder.file("ids")}, kUsage, {"vocabulary"}},
      {logits("empty"), kBadInput, {"0 bytes"}},
      {logits("odd"), kBadInput, {"5 bytes"}},
      {logits("large"), kBadInput, {"65535"}},
      {logits("negative"), kBadInput, {"-1"}},
      {logits("nowhere"), kBadInput, {"nowhere"}},
  });
  CHECK(folder.entries() == before);
}

TEST_CASE("edge: outputs that cannot be written leave nothing", "[cli]") {
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder);
  write_text(folder.file("tokens"), std::string(4 * 200, '\0'));  // 200 x 300 floats: 240 kB
  write_text(folder.file("exists"), "precious");
  std::filesystem::create_directory(folder.file("disk"));
  const std::vector<std::string> before = folder.entries();
  const auto logits = [&](const std::string& output) {
    return std::vector<std::string>{"logits", model, "--tokens", folder.file("tokens"),
                                    "-o",     output};
  };
  check_all({{logits(folder.file("exists")), kUsage, {"exists", "--force"}},
             {logits(folder.path().string()), kUsage, {"directory"}},
             {logits(folder.file("nowhere/out")), kFailed, {"nowhere"}},
             {logits(""), kUsage, {"output"}}});
  CHECK(read_bytes(folder.file("exists")).size() == 8);

  const RunOptions small_files{.max_file_bytes = 50000};
  check_refused(edge(logits(folder.file("out")), small_files), kFailed,
                {"out", "nothing was kept"});
  auto forced = logits(folder.file("exists"));
  forced.emplace_back("--force");
  check_refused(edge(forced, small_files), kFailed, {"nothing was kept"});
  CHECK(read_bytes(folder.file("exists")).size() == 8);
  CHECK(folder.entries() == before);

  check_fine(edge(forced));
  CHECK(read_bytes(folder.file("exists")).size() == 240000);

  // Results on a full stdout are no success either.
  const Run full = run({"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full",
                        program_path("rwkv-edge"), "inspect", model});
  CHECK(full.exit_code == kFailed);
  CHECK(full.err.find("rwkv-edge: error: ") == 0);
}

TEST_CASE("edge: a full disk", "[cli]") {
  if (!can_mount("edge: a full disk")) {
    return;
  }
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder);
  write_text(folder.file("tokens"), std::string(4 * 200, '\0'));
  const std::string disk = folder.file("disk");
  std::filesystem::create_directory(disk);
  // The disk is gone with the process, so a shell in the same namespace lists what was left.
  const Run full =
      run({"/bin/sh", "-c",
           "\"$0\" logits \"$1\" --tokens \"$2\" -o \"$3/out\"; code=$?; ls -A \"$3\"; "
           "exit $code",
           program_path("rwkv-edge"), model, folder.file("tokens"), disk},
          {.tiny_disk = TinyDisk{disk, 65536}});
  INFO(full.err);
  CHECK(full.exit_code == kFailed);
  CHECK(full.err.find("No space left") != std::string::npos);
  CHECK(full.out.empty());
}

}  // namespace
}  // namespace rwkv::test
