// Every command of rwkv-edge on small packed models of every version.
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "formats/arch/versions.h"
#include "formats/base/half.h"
#include "tests/cli/run.h"
#include "tests/support/tiny_model.h"

namespace rwkv::test {
namespace {

using Json = nlohmann::json;

struct Help {
  const char* command;
  std::vector<std::string> options;
};

std::vector<std::byte> to_bytes(const std::vector<int32_t>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// Text that any vocabulary has: every byte, and words of the World vocabulary.
std::string all_bytes() {
  std::string text = "Hello world, the User: \xe4\xbd\xa0 \xf0\x9f\x98\x80\n\n";
  for (int byte = 0; byte < 256; ++byte) {
    text += static_cast<char>((byte * 37) % 256);
  }
  return text;
}

std::vector<int32_t> ids_in(const std::string& text) {
  std::vector<int32_t> ids;
  std::istringstream in(text);
  for (int32_t id = 0; in >> id;) {
    ids.push_back(id);
  }
  return ids;
}

// Mean of -ln p(next token), computed here from the logits alone.
double nats_from(const std::vector<float>& logits, const std::vector<int32_t>& ids,
                 size_t n_vocab) {
  double total = 0.0;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const float* row = logits.data() + i * n_vocab;
    double sum = 0.0;
    for (size_t k = 0; k < n_vocab; ++k) {
      sum += std::exp(static_cast<double>(row[k]));
    }
    total += std::log(sum) - static_cast<double>(row[ids[i + 1]]);
  }
  return total / static_cast<double>(ids.size() - 1);
}

TEST_CASE("edge: help and version", "[cli]") {
  const Run overview = edge({"--help"});
  check_fine(overview);
  const std::vector<Help> commands = {
      {"generate",
       {"--prompt", "-p", "--file", "-n", "--temp", "--top-p", "--top-k", "--presence",
        "--frequency", "--penalty-decay", "--seed", "--stop", "--ids", "-t", "--threads"}},
      {"perplexity", {"--text", "--max-tokens", "--json", "--threads"}},
      {"logits", {"--tokens", "-o", "--output", "--sequence", "--force"}},
      {"bench", {"-t", "--threads", "--json", "-n", "--prompt", "--runs"}},
      {"tokenize", {"--text"}},
      {"detokenize", {"--ids"}},
      {"inspect", {"--json", "--verify"}}};
  for (const Help& help : commands) {
    CHECK(overview.out.find(help.command) != std::string::npos);
    const Run shown = edge({help.command, "--help"});
    check_fine(shown);
    CHECK(shown.err.empty());
    for (const std::string& option : help.options) {
      INFO(help.command << " " << option);
      CHECK(shown.out.find(option) != std::string::npos);
    }
  }
  const Run version = edge({"--version"});
  check_fine(version);
  CHECK(version.out.starts_with("rwkv-edge "));
}

TEST_CASE("edge: every command on every version", "[cli]") {
  const ScratchFolder folder;
  const std::string text = folder.file("text");
  write_text(text, all_bytes());
  for (const TinyModelOptions& options : all_tiny_models()) {
    const std::string name = fmt::format("{}-{}", version_traits(options.version).name,
                                         static_cast<int>(options.low_rank));
    INFO(name);
    const std::string model = write_tiny_model(folder, options, name);

    const Json inspected = Json::parse(check_fine(edge({"inspect", model, "--json"})).out);
    CHECK(inspected["model"]["n_vocab"] == options.n_vocab);
    CHECK(inspected["model"]["version"] == version_traits(options.version).name);
    CHECK(inspected["tensors"].size() > 20);

    // What is tokenized comes back, byte for byte.
    const Run ids = edge({"tokenize", model, "--text", text});
    check_fine(ids);
    write_text(folder.file("ids"), ids.out);
    CHECK(check_fine(edge({"detokenize", model, "--ids", folder.file("ids")})).out == all_bytes());

    // One by one and many at once: the same logits, to the last bit.
    const std::vector<int32_t> tokens = ids_in(ids.out);
    REQUIRE(tokens.size() > 100);
    write_bytes(folder.file("tokens"), to_bytes(tokens));
    const auto logits = [&](const std::string& file, const std::vector<std::string>& more) {
      std::vector<std::string> words = {
          "logits", model, "--tokens", folder.file("tokens"), "-o", folder.file(file), "--force"};
      words.insert(words.end(), more.begin(), more.end());
      check_fine(edge(words));
      return read_bytes(folder.file(file));
    };
    const auto steps = logits("step.f32", {"-t", "1"});
    CHECK(steps.size() == tokens.size() * options.n_vocab * sizeof(float));
    CHECK(steps == logits("sequence.f32", {"--sequence", "-t", "2"}));

    const Run scored = edge({"perplexity", model, "--text", text, "--json"});
    check_fine(scored);
    const Json score = Json::parse(scored.out);
    const double nats = nats_from(read_f32(folder.file("step.f32")), tokens, options.n_vocab);
    CHECK(score["tokens"] == tokens.size() - 1);
    CHECK(score["nats_per_token"].get<double>() == Approx(nats).margin(1e-4));
    CHECK(score["perplexity"].get<double>() == Approx(std::exp(nats)).epsilon(1e-3));
    CHECK(score["bits_per_byte"].get<double>() ==
          Approx(nats * static_cast<double>(tokens.size() - 1) / std::log(2.0) /
                 score["bytes"].get<double>())
              .margin(1e-3));
    CHECK(score["top1_accuracy"].get<double>() >= 0.0);
    CHECK(score["top1_accuracy"].get<double>() <= 1.0);
  }
}

TEST_CASE("edge: generate", "[cli]") {
  const ScratchFolder folder;
  for (const TinyVocabulary vocabulary :
       {TinyVocabulary::World, TinyVocabulary::Bytes, TinyVocabulary::Bpe}) {
    const std::string model =
        write_tiny_model(folder, {.vocabulary = vocabulary}, fmt::format("{}", int(vocabulary)));
    const auto generate = [&](const std::vector<std::string>& more) {
      std::vector<std::string> words = {"generate", model, "-n", "24"};
      words.insert(words.end(), more.begin(), more.end());
      const Run result = edge(words);
      check_fine(result);
      CHECK(is_utf8(result.out));
      return result.out;
    };
    // The seed decides, and nothing else.
    const std::string text = generate({"-p", "Hello", "--seed", "7"});
    CHECK(text == generate({"-p", "Hello", "--seed", "7"}));
    CHECK(text == generate({"-p", "Hello", "--seed", "7", "-t", "2"}));
    CHECK(text != generate({"-p", "Hello", "--seed", "8"}));
    // Greedy needs no seed, and threads do not change it.
    const std::string greedy = generate({"-p", "Hello", "--temp", "0", "-t", "1"});
    CHECK(greedy == generate({"-p", "Hello", "--temp", "0", "-t", "2", "--seed", "3"}));
    // A prompt from a file, and one that is no valid UTF-8.
    write_text(folder.file("prompt"), "Hello");
    CHECK(greedy == generate({"-f", folder.file("prompt"), "--temp", "0"}));
    for (const char* prompt : {"\xff\xfe", "\xe4\xbd", "\xf0\x9f\x98", "ok \xc3", "\xc0\x80"}) {
      generate({"-p", prompt});
    }
    CHECK(generate({"-p", "x", "-n", "0"}) == "\n");
  }
}

TEST_CASE("edge: generate with ids", "[cli]") {
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder, {.vocabulary = TinyVocabulary::None});
  const std::vector<std::string> words = {"generate", model, "--ids",  "-p", "1 2 299",
                                          "-n",       "16",  "--temp", "1"};
  const Run first = edge(words);
  check_fine(first);
  CHECK(first.out == edge(words).out);
  const std::vector<int32_t> ids = ids_in(first.out);
  CHECK(ids.size() == 16);
  CHECK(std::all_of(ids.begin(), ids.end(), [](int32_t id) { return id >= 0 && id < 300; }));
  CHECK(first.out.find_first_not_of("0123456789 \n") == std::string::npos);
  // Commas too, as other tools print ids.
  CHECK(edge({"generate", model, "--ids", "-p", "1,2,299", "-n", "16", "--temp", "1"}).out ==
        first.out);
}

TEST_CASE("edge: greedy generation takes the largest logit", "[cli]") {
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder, {.vocabulary = TinyVocabulary::None});
  const Run run = edge({"generate", model, "--ids", "-p", "5 6", "-n", "8", "--temp", "0"});
  check_fine(run);
  std::vector<int32_t> tokens = {5, 6};
  const std::vector<int32_t> generated = ids_in(run.out);
  REQUIRE(generated.size() == 8);
  tokens.insert(tokens.end(), generated.begin(), generated.end());
  write_bytes(folder.file("tokens"), to_bytes(tokens));
  check_fine(edge({"logits", model, "--tokens", folder.file("tokens"), "-o", folder.file("out")}));
  const std::vector<float> logits = read_f32(folder.file("out"));
  for (size_t i = 0; i < generated.size(); ++i) {
    const auto row = logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * 300);
    CHECK(std::max_element(row, row + 300) - row == generated[i]);
  }
}

TEST_CASE("edge: bench", "[cli]") {
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder);
  const Run run =
      edge({"bench", model, "-n", "4", "--prompt", "16", "--runs", "2", "-t", "1,2", "--json"});
  check_fine(run);
  const Json report = Json::parse(run.out);
  for (const char* key :
       {"open_ms", "first_logits_ms", "weight_bytes", "bytes_per_token", "peak_rss_bytes"}) {
    INFO(key);
    CHECK(report.at(key).get<double>() > 0.0);
  }
  CHECK(report.at("kernels").is_string());
  REQUIRE(report.at("runs").size() == 2);
  for (size_t i = 0; i < 2; ++i) {
    const Json& threads = report["runs"][i];
    CHECK(threads.at("threads") == i + 1);
    CHECK(threads.at("decode_n") == 4);
    CHECK(threads.at("prefill_tokens") == 16);
    for (const char* key :
         {"decode_tokens_per_s", "decode_min", "decode_max", "prefill_tokens_per_s", "prefill_min",
          "prefill_max", "decode_gb_per_s", "read_gb_per_s", "share_of_bandwidth"}) {
      INFO(key);
      CHECK(threads.at(key).get<double>() > 0.0);
    }
  }
  CHECK(check_fine(edge({"bench", model, "-n", "2", "--prompt", "4", "--runs", "1", "-t", "1"}))
            .out.find("decode/s") != std::string::npos);
}

TEST_CASE("edge: inspect", "[cli]") {
  const ScratchFolder folder;
  const std::string model = write_tiny_model(folder);
  const Run text = edge({"inspect", model, "--verify"});
  check_fine(text);
  CHECK(text.out.find("verified") != std::string::npos);
  CHECK(text.out.find("blocks.1.ffn.value.weight") != std::string::npos);
  const Json report = Json::parse(edge({"inspect", model, "--verify", "--json"}).out);
  CHECK(report["verified"] == true);
  uint64_t bytes = 0;
  for (const Json& tensor : report["tensors"]) {
    bytes += tensor["bytes"].get<uint64_t>();
  }
  CHECK(report["tensor_bytes"] == bytes);
  CHECK(bytes < read_bytes(model).size());
}

}  // namespace
}  // namespace rwkv::test
