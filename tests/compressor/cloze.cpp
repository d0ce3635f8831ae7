// Last-word accuracy is what its definition says, computed here a second way: from all logits of
// one pass over each document. What is no document is named and skipped.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>

#include "compressor/checkpoint/synth.h"
#include "compressor/evaluate/cloze.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

constexpr size_t kVocab = 256;
constexpr int32_t kFirstWord = 96;  // ids from here are " w096" and so on, below them characters

std::string word(int32_t id) {
  return fmt::format(" w{:03}", id);
}

// Ids of a text without words: what the tokenizer should find.
std::vector<int32_t> characters(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) {
    ids.push_back(c == ' ' ? kFirstWord - 1 : c - '!' + 1);
  }
  return ids;
}

std::string write_vocabulary(const ScratchFolder& scratch) {
  std::string lines;
  for (char c = '!'; c <= '~'; ++c) {
    const bool is_escaped = c == '"' || c == '\\';
    lines += fmt::format("{} \"{}{}\" 1\n", c - '!' + 1, is_escaped ? "\\" : "", c);
  }
  lines += fmt::format("{} ' ' 1\n", kFirstWord - 1);
  for (int32_t id = kFirstWord; id < static_cast<int32_t>(kVocab); ++id) {
    lines += fmt::format("{} '{}' 5\n", id, word(id));
  }
  const std::string path = scratch.file("vocab.txt");
  write_text(path, lines);
  return path;
}

std::string write_synth(const ScratchFolder& scratch) {
  press::SynthOptions options;
  options.model.arch = "v6";
  options.model.n_layer = 2;
  options.model.n_embd = 64;
  options.model.n_vocab = kVocab;
  options.output = scratch.file("m.pth");
  options.existing = OutputFile::Existing::Replace;
  REQUIRE_OK(press::write_synthetic(options).status());
  return options.output;
}

Result<press::ClozeSet> read(const ScratchFolder& scratch, const std::string& lines,
                             const press::Sampling& sampling = {}) {
  const std::string path = scratch.file("cloze.jsonl");
  write_text(path, lines);
  return press::read_cloze(path, sampling);
}

// What the model answers, from the logits after every token.
struct Expected {
  const std::shared_ptr<const edge::Model>& model;
  double nats = 0.0;
  double squared_nats = 0.0;
  uint64_t right = 0;

  static size_t best(const std::vector<float>& row) {
    return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
  }
  std::vector<float> last_logits(const std::vector<int32_t>& tokens) const {
    const std::vector<float> all = all_logits(model, tokens, 5);
    return {all.end() - static_cast<std::ptrdiff_t>(kVocab), all.end()};
  }
  void add(std::vector<int32_t> context, const std::vector<int32_t>& target) {
    bool is_right = true;
    double here = 0.0;
    for (const int32_t token : target) {
      const std::vector<float> row = last_logits(context);
      double sum = 0.0;
      for (const float logit : row) {
        sum += std::exp(static_cast<double>(logit));
      }
      is_right = is_right && best(row) == static_cast<size_t>(token);
      here += std::log(sum) - static_cast<double>(row[static_cast<size_t>(token)]);
      context.push_back(token);
    }
    nats += here;
    squared_nats += here * here;
    right += is_right ? 1 : 0;
  }
};

}  // namespace

TEST_CASE("Last words are scored as defined, with any number of threads", "[cloze]") {
  const ScratchFolder scratch;
  const std::string packed = scratch.file("m.gguf");
  const auto model =
      convert_and_open(write_synth(scratch), packed, {"fp32", write_vocabulary(scratch), {}});
  // Where the model says a word there are three documents: that word, another one, and that word
  // followed by a letter, of two tokens.
  Expected expected{model};
  std::string lines;
  uint64_t n_contexts = 0;
  for (char c = 'a'; c <= 'z'; ++c) {
    const std::string context = fmt::format("{} b{}", c, c);
    const std::vector<int32_t> tokens = characters(context);
    const auto said = static_cast<int32_t>(Expected::best(expected.last_logits(tokens)));
    if (said < kFirstWord) {
      continue;
    }
    const int32_t other = said == kFirstWord ? said + 1 : said - 1;
    const auto document = [&](const std::string& target, const std::string& kind) {
      lines += fmt::format("{{\"kind\": \"{}\", \"text\": \"{}{}\", \"answer\": [7]}}\n", kind,
                           context, target);
    };
    document(word(said), "said");
    document(word(other), "other");
    document(word(said) + "x", "");
    expected.add(tokens, {said});
    expected.add(tokens, {other});
    expected.add(tokens, {said, characters("x").front()});
    ++n_contexts;
  }
  REQUIRE(n_contexts > 2);
  const uint64_t n = 3 * n_contexts;
  const auto set = read(scratch, lines);
  REQUIRE_OK(set.status());
  for (const unsigned n_threads : {1u, 3u}) {
    uint64_t done = 0;
    const auto result =
        press::evaluate_cloze(model, set.value(), {n_threads, [&](uint64_t d) { done = d; }});
    REQUIRE_OK(result.status());
    const press::ClozeResult& r = result.value();
    CHECK(done == n);
    CHECK(r.all.documents == n);
    CHECK(r.all.right == expected.right);
    CHECK(r.all.right >= n_contexts);
    CHECK(r.nats == Approx(expected.nats).epsilon(1e-9));
    const auto total = static_cast<double>(n);
    CHECK(r.perplexity().value == Approx(std::exp(expected.nats / total)).epsilon(1e-9));
    const double variance = expected.squared_nats / total - std::pow(expected.nats / total, 2);
    CHECK(r.nats_per_word().standard_error ==
          Approx(std::sqrt(variance / (total - 1))).epsilon(1e-6));
    const double p = static_cast<double>(expected.right) / total;
    CHECK(r.all.accuracy() == Approx(p));
    CHECK(r.all.standard_error() == Approx(std::sqrt(p * (1 - p) / total)));
    // What has no kind is in the total alone.
    REQUIRE(r.kinds.size() == 2);
    CHECK(r.kinds.at("said").documents == n_contexts);
    CHECK(r.kinds.at("said").right == n_contexts);
    CHECK(r.kinds.at("other").documents == n_contexts);
    CHECK(r.kinds.at("other").right == 0);
  }
  // A text that the vocabulary cannot spell ends the work, and says where.
  const auto unknown = read(scratch, "{\"text\": \"a b\"}\n{\"text\": \"a \\u00e9\"}\n");
  REQUIRE_OK(unknown.status());
  const Status refused = press::evaluate_cloze(model, unknown.value(), {}).status();
  CHECK(refused.code() == Code::BadInput);
  CHECK_THAT(refused.message(), Contains("cloze.jsonl") && Contains("line 2"));
}

TEST_CASE("The last word is what follows the last space", "[cloze]") {
  const ScratchFolder scratch;
  const auto set = read(scratch,
                        "{\"text\": \"one  two\"}\r\n\n \t\n"
                        "{\"text\": \"a b\\nc\\td\", \"kind\": \"k\"}\n"
                        "{\"text\": \"  x\"}\n{\"text\": \"y z\"}");
  REQUIRE_OK(set.status());
  const auto& documents = set.value().documents;
  REQUIRE(documents.size() == 4);
  CHECK(set.value().malformed.count == 0);
  CHECK(documents[0].context == "one ");
  CHECK(documents[0].target == " two");
  CHECK(documents[1].context == "a");
  CHECK(documents[1].target == " b\nc\td");
  CHECK(documents[1].kind == "k");
  CHECK(documents[1].line == 4);
  CHECK(documents[2].context == " ");
  CHECK(documents[2].target == " x");
  CHECK(documents[3].line == 6);
}

TEST_CASE("Malformed lines are named, skipped and counted", "[cloze]") {
  const ScratchFolder scratch;
  const std::vector<std::string> wrong = {"{\"text\": \"a b\"",
                                          "[\"text\", \"a b\"]",
                                          "{\"test\": \"a b\"}",
                                          "{\"text\": 5}",
                                          "{\"text\": \"word\"}",
                                          "{\"text\": \" word\"}",
                                          "{\"text\": \"word \"}",
                                          "{\"text\": \"\"}",
                                          "{\"text\": \"a b\", \"kind\": 5}",
                                          "{\"text\": \"a \xff\"}",
                                          std::string(100000, '['),
                                          "{\"text\": \"a b\"} {\"text\": \"a b\"}"};
  std::string lines = "{\"text\": \"a b\"}\n";
  for (const std::string& line : wrong) {
    lines += line + "\n";
    const auto alone = read(scratch, line);
    INFO(line.substr(0, 80));
    REQUIRE_FALSE(alone.ok());
    CHECK(alone.status().code() == Code::BadInput);
    CHECK_THAT(alone.status().message(), Contains("cloze.jsonl: line 1: "));
  }
  lines += "{\"text\": \"c d\"}\n{\"text\": \"e f\"}\n";
  const auto set = read(scratch, lines);
  REQUIRE_OK(set.status());
  CHECK(set.value().documents.size() == 3);
  CHECK(set.value().malformed.count == wrong.size());
  REQUIRE(set.value().malformed.complaints.size() == 5);
  CHECK_THAT(set.value().malformed.complaints[4], Contains("cloze.jsonl: line 6: "));
  // Of fewer documents than there are, the same are drawn again; all lines are looked at.
  const auto first = read(scratch, lines, {2, 5});
  const auto again = read(scratch, lines, {2, 5});
  REQUIRE_OK(first.status());
  REQUIRE_OK(again.status());
  REQUIRE(first.value().documents.size() == 2);
  CHECK(first.value().available == 3);
  CHECK(first.value().malformed.count == wrong.size());
  CHECK(first.value().documents[0].line == again.value().documents[0].line);
  CHECK(first.value().documents[0].line < first.value().documents[1].line);
}

TEST_CASE("A file without documents is refused", "[cloze]") {
  const ScratchFolder scratch;
  for (const char* text : {"", "\n\n  \n"}) {
    const auto set = read(scratch, text);
    REQUIRE_FALSE(set.ok());
    CHECK(set.status().code() == Code::BadInput);
    CHECK_THAT(set.status().message(), Contains("cloze.jsonl") && Contains("empty"));
  }
  CHECK(press::read_cloze(scratch.file("missing.jsonl"), {}).status().code() == Code::BadInput);
}
