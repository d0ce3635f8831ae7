// rwkv-edge as users call it. Models are written by the tests, so this runs without the compressor.
#include <nlohmann/json.hpp>

#include <cmath>
#include <sstream>

#include "formats/base/utf8.h"
#include "runtime/text/scoring.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Arguments = std::vector<std::string>;

std::string tiny(const ScratchFolder& scratch, TokenizerKind kind) {
  TinyModelOptions options;
  options.vocabulary = kind == TokenizerKind::Byte ? TinyVocabulary::Bytes : TinyVocabulary::None;
  options.n_vocab = 256;
  return write_tiny_model(scratch, options, kind == TokenizerKind::Byte ? "m.gguf" : "ids.gguf");
}

void check_refused(const Arguments& arguments, int exit_code, const std::string& says) {
  const RunResult result = run("rwkv-edge", arguments);
  INFO(fmt::format("{}", fmt::join(arguments, " ")) << "\n" << result.err);
  CHECK(result.signal == 0);
  CHECK(result.exit_code == exit_code);
  CHECK_THAT(result.err, Contains("rwkv-edge: error: ") && Contains(says));
}

std::string output_of(const Arguments& arguments) {
  const RunResult result = run("rwkv-edge", arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

}  // namespace

TEST_CASE("Values of options may be long, and stand right behind a short option", "[cli]") {
  check_refused({"generate", "none.gguf", "--prompt=" + std::string(100000, 'a')}, 3, "none.gguf");
  check_refused({"generate", "none.gguf", "-p" + std::string(100000, 'a')}, 3, "none.gguf");
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  const std::string text =
      output_of({"generate", model, "-p", "a/b.c", "-n", "9", "--seed", "7", "-t", "1"});
  CHECK(text == output_of({"generate", model, "-pa/b.c", "-n9", "--seed=7", "-t1"}));
  // A prompt that looks like an option with a value is a prompt.
  const std::string dashes =
      output_of({"generate", model, "--prompt=-n2", "-n", "9", "--seed", "7"});
  CHECK(dashes == output_of({"generate", model, "-p", "-n2", "-n9", "--seed", "7"}));
  CHECK(dashes == output_of({"generate", model, "--prompt", "-n2", "-n9", "--seed", "7"}));
}

TEST_CASE("rwkv-edge generates the same text from the same seed on any threads", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  const Arguments base = {"generate", model, "-p", "abc", "-n", "30", "--seed", "7"};
  const auto with = [&](Arguments more) {
    Arguments all = base;
    all.insert(all.end(), more.begin(), more.end());
    return output_of(all);
  };
  const std::string text = with({"-t", "1"});
  CHECK(text == with({"-t", "2"}));
  CHECK(text != with({"--seed", "8"}));
  CHECK(with({"--temp", "0", "-t", "1"}) == with({"--temp", "0", "-t", "2"}));
  CHECK(is_valid_utf8(text));
  const std::string ids = output_of({"generate", model, "--ids", "-p", "97 98 99", "-n", "5"});
  std::istringstream numbers(ids);
  size_t n = 0;
  for (int id = 0; numbers >> id; ++n) {
    CHECK(id >= 0);
    CHECK(id < 256);
  }
  CHECK(n == 5);
}

TEST_CASE("A prompt of invalid UTF-8 works on bytes and gives valid UTF-8", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  CHECK(is_valid_utf8(output_of({"generate", model, "-p", "\xff\xc3(", "-n", "40"})));
}

TEST_CASE("Perplexity, logits and tokens agree with each other", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  const std::string text = "The quick brown fox jumps over the lazy dog, forty times or so.";
  write_text(scratch.file("t.txt"), text);
  const auto report = nlohmann::json::parse(
      output_of({"perplexity", model, "--text", scratch.file("t.txt"), "--json"}));
  std::istringstream ids(output_of({"tokenize", model, "--text", scratch.file("t.txt")}));
  std::vector<int32_t> tokens;
  for (int32_t id = 0; ids >> id;) {
    tokens.push_back(id);
  }
  REQUIRE(tokens.size() == text.size());
  write_bytes(scratch.file("t.i32"), std::as_bytes(std::span(tokens)));
  output_of({"logits", model, "--tokens", scratch.file("t.i32"), "-o", scratch.file("a.f32")});
  output_of({"logits", model, "--tokens", scratch.file("t.i32"), "-o", scratch.file("b.f32"),
             "--sequence", "-t", "2"});
  CHECK(read_bytes(scratch.file("a.f32")) == read_bytes(scratch.file("b.f32")));
  const std::vector<float> logits = read_f32(scratch.file("a.f32"));
  REQUIRE(logits.size() == tokens.size() * 256);
  double nats = 0.0;
  for (size_t t = 0; t + 1 < tokens.size(); ++t) {
    nats += edge::negative_log_likelihood(std::span(logits).subspan(t * 256, 256), tokens[t + 1]);
  }
  const double n = static_cast<double>(tokens.size() - 1);
  CHECK(std::fabs(nats / n - report["nats_per_token"].get<double>()) < 1e-4);
  CHECK(std::fabs(nats / n / std::log(2.0) - report["bits_per_byte"].get<double>()) < 1e-4);
  write_text(scratch.file("ids"), fmt::format("{}", fmt::join(tokens, " ")));
  CHECK(output_of({"detokenize", model, "--ids", scratch.file("ids")}) == text);
}

TEST_CASE("bench --json has the documented fields", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  const auto report = nlohmann::json::parse(output_of(
      {"bench", model, "-t", "1,2", "-n", "4", "--prompt", "8", "--runs", "1", "--json"}));
  for (const char* key : {"open_ms", "first_logits_ms", "peak_rss_bytes", "bytes_per_token"}) {
    CHECK(report[key].get<double>() > 0);
  }
  REQUIRE(report["runs"].size() == 2);
  for (const char* key :
       {"decode_tokens_per_s", "prefill_tokens_per_s", "decode_gb_per_s", "read_gb_per_s"}) {
    CHECK(report["runs"][1][key].get<double>() > 0);
  }
}

TEST_CASE("bench --compare runs models in turn", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  const Arguments command = {"bench", model, "--compare", model,      "--compare", model,    "-t",
                             "1,2",   "-n",  "4",         "--prompt", "8",         "--runs", "3"};
  Arguments with_json = command;
  with_json.emplace_back("--json");
  const auto report = nlohmann::json::parse(output_of(with_json));
  REQUIRE(report["runs"].size() == 2);
  for (const auto& run : report["runs"]) {
    CHECK(run["read_gb_per_s"].get<double>() > 0);
    REQUIRE(run["models"].size() == 3);
    for (const auto& one : run["models"]) {
      CHECK(one["file"] == model);
      CHECK(one["decode_n"] == 3);
      CHECK(one["touched_bytes_per_token"] == run["models"][0]["touched_bytes_per_token"]);
      for (const char* what : {"decode_ratio", "prefill_ratio"}) {
        CHECK(one[what]["min"].get<double>() <= one[what]["median"].get<double>());
        CHECK(one[what]["median"].get<double>() <= one[what]["max"].get<double>());
      }
    }
    CHECK(run["models"][0]["decode_ratio"]["max"] == 1.0);
  }
  CHECK_THAT(output_of(command), Contains("times as fast in decoding"));
  check_refused({"bench", model, "--compare", scratch.file("none")}, 3, "none");
}

TEST_CASE("Kernels are listed, and forced by name", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  const std::string list = output_of({"--list-kernels"});
  CHECK_THAT(list, Contains("generic") && Contains("in use"));
  const auto with_kernels = [&](const std::string& name) {
    return run("/usr/bin/env", {"RWKV_EDGE_KERNELS=" + name, executable("rwkv-edge"), "generate",
                                model, "-p", "a", "-n", "4", "--temp", "0"});
  };
  const RunResult unknown = with_kernels("generik");
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.err, Contains("RWKV_EDGE_KERNELS") && Contains("did you mean 'generic'"));
  CHECK(with_kernels("generic").exit_code == 0);
}

TEST_CASE("rwkv-edge refuses invalid requests", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = tiny(scratch, TokenizerKind::Byte);
  const std::string ids = tiny(scratch, TokenizerKind::World);
  write_text(scratch.file("empty"), "");
  write_text(scratch.file("odd"), "abc");
  check_refused({"generate", model}, 2, "--prompt");
  check_refused({"generate", model, "-p", ""}, 2, "prompt");
  check_refused({"generate", model, "-p", "a", "-t", "0"}, 2, "threads");
  check_refused({"generate", model, "-p", "a", "--temp", "nan"}, 2, "temp");
  check_refused({"generate", model, "-p", "a", "--top-p", "2"}, 2, "top-p");
  check_refused({"generate", model, "-p", "a", "-n", "-1"}, 2, "n");
  check_refused({"generate", model, "-p", "a", "--ids"}, 2, "token ids");
  check_refused({"generate", model, "-p", "999", "--ids"}, 3, "999");
  check_refused({"generate", model, "-p", "a", "--sed", "1"}, 2, "seed");
  check_refused({"perplexity", model, "--text", scratch.file("empty")}, 3, "at least 2");
  check_refused({"logits", model, "--tokens", scratch.file("odd"), "-o", scratch.file("x")}, 3,
                "int32");
  check_refused({"generate", scratch.file("missing"), "-p", "a"}, 3, "missing");
  check_refused({"generate", scratch.file("odd"), "-p", "a"}, 3, "odd");
  check_refused({"generate", scratch.path().string(), "-p", "a"}, 3, "directory");
  const RunResult no_text = run("rwkv-edge", {"generate", ids, "-p", "a"});
  CHECK(no_text.exit_code != 0);
  CHECK_THAT(no_text.err, Contains("vocabulary"));
}

TEST_CASE("Damaged packed files are refused or run, never crash", "[cli]") {
  const ScratchFolder scratch;
  const auto bytes = read_bytes(tiny(scratch, TokenizerKind::Byte));
  const std::string damaged = scratch.file("damaged.gguf");
  for (size_t part = 0; part < 50; ++part) {
    write_bytes(damaged, std::span(bytes).first(bytes.size() * part / 50));
    const RunResult cut = run("rwkv-edge", {"inspect", damaged});
    CHECK(cut.exit_code == 3);
    CHECK_THAT(cut.err, Contains("damaged.gguf"));
  }
  size_t found = 0;
  for (uint64_t flip = 0; flip < 60; ++flip) {
    auto copy = bytes;
    const auto unit = 0.5 + 0.5 * static_cast<double>(noise(99, flip));
    const auto at = static_cast<size_t>(unit * static_cast<double>(copy.size() - 1));
    copy[at] ^= static_cast<std::byte>(1u << (flip % 8));
    write_bytes(damaged, copy);
    const RunResult inspected = run("rwkv-edge", {"inspect", damaged, "--verify"});
    CHECK((inspected.exit_code == 0 || inspected.exit_code == 3));
    found += inspected.exit_code == 3 ? 1 : 0;
    const RunResult generated = run("rwkv-edge", {"generate", damaged, "-p", "a", "-n", "2"});
    CHECK((generated.exit_code == 0 || generated.exit_code == 3));
  }
  // Flips in names of the metadata's free text are harmless; those in tensors are found.
  CHECK(found > 40);
}

TEST_CASE("Weights that are not numbers end in an error, and are found", "[cli]") {
  const ScratchFolder scratch;
  write_text(scratch.file("t.txt"), "A text of some words.");
  TinyModelOptions options;
  options.n_vocab = 280;
  for (const char* tensor : {"ln_out.bias", "blocks.1.att.key.weight"}) {
    options.spoiled = tensor;
    const std::string model = write_tiny_model(scratch, options, std::string(tensor) + ".gguf");
    check_refused({"generate", model, "-p", "Hello", "-n", "5"}, 3, "not finite");
    check_refused({"perplexity", model, "--text", scratch.file("t.txt"), "--quiet"}, 3,
                  "not finite");
    check_refused({"inspect", model, "--verify"}, 3,
                  std::string("'") + tensor + "': row 0, column 0 holds nan");
    CHECK(run("rwkv-edge", {"inspect", model}).exit_code == 0);
  }
}

TEST_CASE("Id 0 is printed where it is a word", "[cli]") {
  const ScratchFolder scratch;
  TinyModelOptions options;
  options.vocabulary = TinyVocabulary::ZeroBased;
  const std::string model = write_tiny_model(scratch, options);
  write_text(scratch.file("t.txt"), "zero");
  CHECK(output_of({"tokenize", model, "--text", scratch.file("t.txt")}) == "0\n");
  const std::string text = output_of(
      {"generate", model, "-p", "a", "-n", "3000", "--temp", "3", "--top-p", "1", "--seed", "1"});
  CHECK_THAT(text, Contains("zero"));
}

TEST_CASE("A prompt may begin with the token that ends texts", "[cli]") {
  const ScratchFolder scratch;
  const std::string model = write_tiny_model(scratch);  // World's: id 1 + byte
  const auto ids = [&](const Arguments& more) {
    Arguments all = {"generate", model, "--ids", "-n", "8", "--temp", "0", "-t", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return output_of(all);
  };
  CHECK(ids({"-p", "98", "--bos"}) == ids({"-p", "0 98"}));
  CHECK(ids({"-p", "98"}) != ids({"-p", "0 98"}));
  check_refused({"generate", tiny(scratch, TokenizerKind::Byte), "-p", "a", "--bos"}, 2, "--bos");
}
