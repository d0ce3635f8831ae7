// rwkv-press eval as users call it: it agrees with rwkv-edge, takes checkpoints, survives nonsense
// and leaves nothing behind.
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "runtime/text/scoring.h"
#include "tests/cli/checks.h"
#include "tests/cli/process.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Json = nlohmann::json;

constexpr size_t kVocab = 300;

const std::string kText = "The quick brown fox jumps over the lazy dog, forty times or so.";

Json evaluated(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "eval");
  arguments.insert(arguments.end(), {"--json", "--quiet"});
  return Json::parse(output_of("rwkv-press", arguments));
}

void refused(std::vector<std::string> arguments, int exit_code, const std::string& says) {
  arguments.insert(arguments.begin(), "eval");
  arguments.emplace_back("--quiet");
  check_refused("rwkv-press", arguments, exit_code, says);
}

// TMPDIR is another folder while the object lives.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& path) {
    if (const char* old = std::getenv("TMPDIR")) {
      old_ = old;
    }
    ::setenv("TMPDIR", path.c_str(), 1);
  }
  ~TemporaryFolder() {
    if (old_.empty()) {
      ::unsetenv("TMPDIR");
    } else {
      ::setenv("TMPDIR", old_.c_str(), 1);
    }
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

 private:
  std::string old_;
};

std::vector<int32_t> ids_of(const std::string& model, const std::string& text) {
  std::istringstream ids(output_of("rwkv-edge", {"tokenize", model, "--text", text}));
  std::vector<int32_t> tokens;
  for (int32_t id = 0; ids >> id;) {
    tokens.push_back(id);
  }
  return tokens;
}

// The loss of every token but the first, from what `rwkv-edge logits` writes.
double nats_from_logits(const std::string& model, const ScratchFolder& scratch,
                        const std::vector<int32_t>& tokens) {
  write_bytes(scratch.file("t.i32"), std::as_bytes(std::span(tokens)));
  output_of("rwkv-edge", {"logits", model, "--tokens", scratch.file("t.i32"), "-o",
                          scratch.file("l.f32"), "--force"});
  const std::vector<float> logits = read_f32(scratch.file("l.f32"));
  REQUIRE(logits.size() == tokens.size() * kVocab);
  double nats = 0.0;
  for (size_t t = 0; t + 1 < tokens.size(); ++t) {
    nats +=
        edge::negative_log_likelihood(std::span(logits).subspan(t * kVocab, kVocab), tokens[t + 1]);
  }
  return nats;
}

}  // namespace

TEST_CASE("Perplexity by eval, by rwkv-edge and from its logits is the same", "[cli][evaluate]") {
  const ScratchFolder scratch;
  TinyModelOptions options;
  options.codec = Codec::I8Row;
  const std::string model = write_tiny_model(scratch, options);
  write_text(scratch.file("t.txt"), kText);
  const Json ours = evaluated({model, "--text", scratch.file("t.txt")})[0]["texts"][0];
  const Json edge = Json::parse(output_of(
      "rwkv-edge", {"perplexity", model, "--text", scratch.file("t.txt"), "--json", "--quiet"}));
  const std::vector<int32_t> tokens = ids_of(model, scratch.file("t.txt"));
  const double nats = nats_from_logits(model, scratch, tokens);
  const double from_logits = std::exp(nats / static_cast<double>(tokens.size() - 1));
  CHECK(std::fabs(ours["perplexity"].get<double>() - from_logits) < 1e-4);
  CHECK(std::fabs(edge["perplexity"].get<double>() - from_logits) < 1e-4);
  for (const char* key : {"tokens", "bytes"}) {
    CHECK(ours[key] == edge[key]);
  }
  CHECK(ours["bits_per_byte"].get<double>() ==
        Approx(edge["bits_per_byte"].get<double>()).epsilon(1e-9));
  const std::vector<std::string> few = {"--max-tokens", "9"};
  CHECK(evaluated({model, "--text", scratch.file("t.txt"), few[0],
                   few[1]})[0]["texts"][0]["tokens"] == 8);
}

TEST_CASE("A prefix token stands in front of texts and contexts and is not scored",
          "[cli][evaluate]") {
  const ScratchFolder scratch;
  const std::string model = write_tiny_model(scratch);
  const std::string text = scratch.file("t.txt");
  write_text(text, kText);
  std::vector<int32_t> tokens = ids_of(model, text);
  tokens.insert(tokens.begin(), 0);
  const Json ours = evaluated({model, "--text", text, "--prefix-token", "0"});
  CHECK(ours[0]["prefix_token"] == 0);
  CHECK(ours[0]["texts"][0]["tokens"] == tokens.size() - 1);
  CHECK(std::log(ours[0]["texts"][0]["perplexity"].get<double>()) ==
        Approx(nats_from_logits(model, scratch, tokens) / static_cast<double>(tokens.size() - 1))
            .epsilon(1e-6));

  write_text(scratch.file("c.jsonl"), "{\"text\": \"The quick brown fox\"}\n");
  const auto cloze = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {model, "--cloze", scratch.file("c.jsonl")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return evaluated(arguments)[0]["cloze"][0]["perplexity"].get<double>();
  };
  CHECK(cloze({}) != cloze({"--prefix-token", "0"}));
  refused({model, "--text", text, "--prefix-token", "300"}, 2, "300");
}

TEST_CASE("eval takes checkpoints, and leaves no file behind", "[cli][evaluate]") {
  const ScratchFolder scratch;
  const ScratchFolder temporary;
  const TemporaryFolder folder(temporary.path().string());
  const std::string input = scratch.file("m.pth");
  const std::string packed = scratch.file("m.gguf");
  output_of("rwkv-press", {"synth", "--arch", "v7", "--n-layer", "1", "--n-embd", "64", "--n-vocab",
                           "256", "--quiet", "-o", input});
  output_of("rwkv-press",
            {"convert", input, "-o", packed, "--preset", "fp32", "--vocab", "bytes", "--quiet"});
  write_text(scratch.file("t.txt"), kText);
  write_text(scratch.file("c.jsonl"), "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n");
  Json reports = evaluated({packed, input, "--vocab", "bytes", "--reference", input, "--text",
                            scratch.file("t.txt"), "--cloze", scratch.file("c.jsonl")});
  REQUIRE(reports.size() == 2);
  CHECK(reports[0]["reference"] == input);
  CHECK(reports[0]["texts"][0]["kl"] == 0.0);
  CHECK(reports[0]["texts"][0]["top5_agreement"] == 1.0);
  CHECK(reports[0]["model"] == packed);
  CHECK(reports[1]["model"] == input);
  reports[1]["model"] = packed;
  CHECK(reports[0] == reports[1]);
  CHECK(temporary.entries().empty());
  // Neither after errors, before and after the checkpoint was packed.
  refused({input, "--text", scratch.file("t.txt")}, 2, "--vocab");
  refused({packed, "--vocab", "bytes", "--text", scratch.file("t.txt")}, 2, "--vocab");
  write_text(scratch.file("one"), "1");
  refused({input, "--vocab", "bytes", "--text", scratch.file("one")}, 3, "at least 2");
  CHECK(temporary.entries().empty());
}

TEST_CASE("An eval leaves the packed checkpoints of another one alone", "[cli][evaluate]") {
  const ScratchFolder scratch;
  const ScratchFolder temporary;
  const TemporaryFolder folder(temporary.path().string());
  const std::string input = scratch.file("m.pth");
  output_of("rwkv-press", {"synth", "--arch", "v7", "--n-layer", "2", "--n-embd", "128",
                           "--n-vocab", "256", "--quiet", "-o", input});
  std::string text;
  while (text.size() < 2'000'000) {
    text += kText;
  }
  write_text(scratch.file("long.txt"), text);
  write_text(scratch.file("short.txt"), kText);
  const Process first(scratch, "first",
                      {"eval", input, "--vocab", "bytes", "--reference", input, "--text",
                       scratch.file("long.txt"), "-t", "1"});
  // Both are packed once the score of the text is under way.
  REQUIRE(wait_until([&] { return first.text().find("long.txt") != std::string::npos; }));
  const std::vector<std::string> files = temporary.entries();
  REQUIRE(files.size() == 2);
  evaluated({input, "--vocab", "bytes", "--text", scratch.file("short.txt")});
  CHECK(temporary.entries() == files);
}

TEST_CASE("eval counts what it skips and refuses nonsense", "[cli][evaluate]") {
  const ScratchFolder scratch;
  const std::string model = write_tiny_model(scratch);
  const std::string cloze = scratch.file("c.jsonl");
  write_text(cloze, "nonsense\n{\"text\": \"a b\"}\n{\"text\": 5}\n{\"text\": \"c d\"}\n");
  const RunResult result = run("rwkv-press", {"eval", model, "--cloze", cloze, "--max-docs", "1"});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.out, Contains("1 of 2 documents") && Contains("perplexity"));
  CHECK_THAT(result.err, Contains("c.jsonl: line 1: ") && Contains("c.jsonl: line 3: ") &&
                             Contains("c.jsonl: 2 malformed lines skipped"));
  CHECK(evaluated({model, "--cloze", cloze})[0]["cloze"][0]["malformed"] == 2);

  refused({model}, 2, "nothing to evaluate on");
  refused({"--cloze", cloze}, 2, "models");
  refused({model, "--cloze", cloze, "--reference", model}, 2, "--text");
  refused({model, "--cloze", cloze, "--max-docs", "-1"}, 2, "max-docs");
  refused({model, "--cloze", scratch.file("missing")}, 3, "missing");
  refused({model, "--choices", cloze}, 3, "c.jsonl: line 1: ");
  write_text(scratch.file("empty"), "");
  for (const char* option : {"--text", "--cloze", "--choices"}) {
    refused({model, option, scratch.file("empty")}, 3, "found an empty file");
    refused({model, option, scratch.path().string()}, 3, "directory");
  }
  refused({cloze, "--cloze", cloze}, 3, "c.jsonl");
  TinyModelOptions ids;
  ids.vocabulary = TinyVocabulary::None;
  refused({write_tiny_model(scratch, ids, "ids.gguf"), "--cloze", cloze}, 2, "--vocab");
}
