// What measure() says of a model is what its definitions say, computed here a second way: from all
// logits of passes over whole texts.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compressor/evaluate/block_ratio.h"
#include "compressor/evaluate/measurement_json.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using ModelPtr = std::shared_ptr<const edge::Model>;
using Logits = std::vector<double>;

const std::string kText =
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
    "age of foolishness, it was the epoch of belief, it was the epoch of incredulity.\n";

ModelPtr open(const std::string& path) {
  auto model = edge::Model::open(path);
  REQUIRE_OK(model.status());
  return model.take();
}

std::vector<int32_t> tokens_of(const ModelPtr& model, const std::string& text) {
  std::vector<int32_t> tokens;
  REQUIRE_OK(model->tokenizer()->encode(text, tokens));
  return tokens;
}

// Logits after every token.
std::vector<Logits> rows_of(const ModelPtr& model, const std::vector<int32_t>& tokens) {
  const std::vector<float> all = all_logits(model, tokens, 7);
  const size_t n_vocab = model->config().n_vocab;
  std::vector<Logits> rows;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(t * n_vocab);
    rows.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(n_vocab));
  }
  return rows;
}

double log_probability(const Logits& row, size_t token) {
  double sum = 0.0;
  for (const double logit : row) {
    sum += std::exp(logit);
  }
  return row[token] - std::log(sum);
}

// Ids from the likeliest.
std::vector<size_t> order_of(const Logits& row) {
  std::vector<size_t> ids(row.size());
  std::iota(ids.begin(), ids.end(), size_t{0});
  std::stable_sort(ids.begin(), ids.end(), [&](size_t a, size_t b) { return row[a] > row[b]; });
  return ids;
}

// ln p(continuation | context), a pass over everything for each token.
double log_likelihood(const ModelPtr& model, const std::string& context,
                      const std::string& continuation) {
  std::vector<int32_t> tokens = tokens_of(model, context);
  double sum = 0.0;
  for (const int32_t token : tokens_of(model, continuation)) {
    sum += log_probability(rows_of(model, tokens).back(), static_cast<size_t>(token));
    tokens.push_back(token);
  }
  return sum;
}

press::EvaluationSets load(const press::EvaluationFiles& files) {
  auto sets = press::load_evaluation_sets(files);
  REQUIRE_OK(sets.status());
  return sets.take();
}

press::Measurement measured(const std::string& packed, const press::EvaluationSets& sets,
                            const press::MeasureOptions& options = {}) {
  auto result = press::measure(packed, sets, options);
  REQUIRE_OK(result.status());
  return result.take();
}

std::string request(uint64_t document, uint64_t index, uint64_t label, const std::string& context,
                    const std::string& continuation) {
  const nlohmann::json line = {{"doc_id", document},
                               {"idx", index},
                               {"label", label},
                               {"request", {{"context", context}, {"continuation", continuation}}}};
  return line.dump() + "\n";
}

struct Question {
  std::string context;
  std::vector<std::string> choices;
};
const std::vector<Question> kQuestions = {
    {"Question: what?\nAnswer:", {" one", " two or three", " a much longer answer"}},
    {"The sky is", {" blue", " green and full of birds"}},
    {"Caf\u00e9:", {" \u00e9\u00e9\u00e9\u00e9", " au lait"}},
    {"1 + 1 =", {" 2", "2", " 3", " eleven"}},
    {"x", {" y", " yy", " yyyyyyyy"}}};

size_t best(const std::vector<double>& scores) {
  return static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

}  // namespace

TEST_CASE("A text is scored as defined", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string packed = write_tiny_model(scratch);
  write_text(scratch.file("t.txt"), kText);
  const ModelPtr model = open(packed);
  const std::vector<int32_t> tokens = tokens_of(model, kText);
  const std::vector<Logits> rows = rows_of(model, tokens);
  const size_t n = tokens.size() - 1;
  const auto length = static_cast<size_t>(std::sqrt(static_cast<double>(n)));
  std::vector<double> nats(n / length + 1), bytes(n / length + 1);
  double right = 0.0;
  for (size_t t = 0; t < n; ++t) {
    const auto next = static_cast<size_t>(tokens[t + 1]);
    nats[t / length] -= log_probability(rows[t], next);
    bytes[t / length] += static_cast<double>(model->tokenizer()->token_bytes(tokens[t + 1]).size());
    right += order_of(rows[t]).front() == next ? 1.0 : 0.0;
  }
  const double all_nats = std::accumulate(nats.begin(), nats.end(), 0.0);
  const double all_bytes = std::accumulate(bytes.begin(), bytes.end(), 0.0);
  const double bits_per_byte = all_nats / std::log(2.0) / all_bytes;
  double squares = 0.0;
  for (size_t i = 0; i < nats.size(); ++i) {
    squares += std::pow(nats[i] / std::log(2.0) - bits_per_byte * bytes[i], 2);
  }
  const auto blocks = static_cast<double>(n % length == 0 ? n / length : n / length + 1);

  const press::EvaluationSets sets = load({{scratch.file("t.txt")}, {}, {}});
  const press::Measurement m = measured(packed, sets);
  REQUIRE(m.texts.size() == 1);
  const press::TextScore& score = m.texts[0].score;
  CHECK(score.tokens == n);
  CHECK(score.bytes == static_cast<uint64_t>(all_bytes));
  CHECK(score.block_length == length);
  CHECK(score.nats_per_token.value == Approx(all_nats / static_cast<double>(n)).epsilon(1e-9));
  CHECK(score.perplexity().value ==
        Approx(std::exp(all_nats / static_cast<double>(n))).epsilon(1e-9));
  CHECK(score.bits_per_byte.value == Approx(bits_per_byte).epsilon(1e-9));
  CHECK(score.bits_per_byte.standard_error ==
        Approx(std::sqrt(blocks / (blocks - 1) * squares) / all_bytes).epsilon(1e-9));
  CHECK(score.top1_accuracy.value == Approx(right / static_cast<double>(n)));
  CHECK_FALSE(score.agreement);

  press::MeasureOptions options;
  options.max_tokens = 20;
  CHECK(measured(packed, sets, options).texts[0].score.tokens == 19);
}

TEST_CASE("Agreement with a reference is as defined", "[evaluate]") {
  const ScratchFolder scratch;
  TinyModelOptions other;
  other.seed = 2;
  const std::string packed = write_tiny_model(scratch);
  const std::string reference = write_tiny_model(scratch, other, "reference.gguf");
  write_text(scratch.file("t.txt"), kText);
  const std::vector<int32_t> tokens = tokens_of(open(packed), kText);
  const std::vector<Logits> rows = rows_of(open(packed), tokens);
  const std::vector<Logits> reference_rows = rows_of(open(reference), tokens);
  const auto n = static_cast<double>(tokens.size() - 1);
  double kl = 0.0, top1 = 0.0, top5 = 0.0;
  for (size_t t = 0; t + 1 < tokens.size(); ++t) {
    for (size_t i = 0; i < rows[t].size(); ++i) {
      const double log_p = log_probability(reference_rows[t], i);
      kl += std::exp(log_p) * (log_p - log_probability(rows[t], i));
    }
    const size_t wanted = order_of(reference_rows[t]).front();
    const std::vector<size_t> ids = order_of(rows[t]);
    top1 += ids.front() == wanted ? 1.0 : 0.0;
    top5 += std::find(ids.begin(), ids.begin() + 5, wanted) != ids.begin() + 5 ? 1.0 : 0.0;
  }
  REQUIRE(kl > 0.01);
  const press::EvaluationSets sets = load({{scratch.file("t.txt")}, {}, {}});
  press::MeasureOptions options;
  options.reference = reference;
  const auto agreement = measured(packed, sets, options).texts[0].score.agreement;
  REQUIRE(agreement);
  CHECK(agreement->kl.value == Approx(kl / n).epsilon(1e-9));
  CHECK(agreement->kl.standard_error > 0.0);
  CHECK(agreement->top1.value == Approx(top1 / n));
  CHECK(agreement->top5.value == Approx(top5 / n));
  // With itself it agrees; the score of the text stays what it was.
  options.reference = packed;
  const press::TextScore self = measured(packed, sets, options).texts[0].score;
  CHECK(self.agreement->kl.value == 0.0);
  CHECK(self.agreement->top1.value == 1.0);
  CHECK(self.agreement->top5.value == 1.0);
  CHECK(self.nats_per_token.value == measured(packed, sets).texts[0].score.nats_per_token.value);
}

TEST_CASE("One position is compared by hand", "[evaluate]") {
  // p = 1/2, 1/4, 1/4 and q = 1/4, 1/2, 1/4: KL = (ln 2 - ln 2 / 2) = ln 2 / 4.
  const auto ln = [](double x) { return static_cast<float>(std::log(x)); };
  const std::vector<float> p = {ln(2), ln(1), ln(1), -100, -100, -100};
  const std::vector<float> q = {ln(1), ln(2), ln(1), -100, -100, -100};
  const press::Comparison near = press::compare_logits(p, q);
  CHECK(near.kl == Approx(std::log(2.0) / 4).epsilon(1e-6));
  CHECK_FALSE(near.is_top1);
  CHECK(near.is_in_top5);
  // The sixth is not among five. Of equal logits the smaller id stands first.
  const std::vector<float> far = {0, 1, 1, 1, 1, 1};
  CHECK_FALSE(press::compare_logits(p, far).is_in_top5);
  const std::vector<float> equal(6, 1.0f);
  CHECK(press::compare_logits(p, equal).is_top1);
  const std::vector<float> last = {0, 0, 0, 0, 0, 9};
  CHECK_FALSE(press::compare_logits(last, equal).is_in_top5);
  // What the reference rules out does not count; what only the model rules out does.
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const std::vector<float> ruled_out = {ln(1), ln(1), kNever};
  CHECK(press::compare_logits(ruled_out, ruled_out).kl == 0.0);
  CHECK(std::isinf(press::compare_logits({{0, 0, 0}}, ruled_out).kl));
}

TEST_CASE("Choices are scored as defined, with any number of threads", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string packed = write_tiny_model(scratch);
  const ModelPtr model = open(packed);
  std::string lines;
  uint64_t right = 0, right_norm = 0, right_bytes = 0, document = 0;
  bool picks_differ = false;
  for (const Question& question : kQuestions) {
    std::vector<double> raw, by_characters, by_bytes;
    for (const std::string& choice : question.choices) {
      const double ll = log_likelihood(model, question.context, choice);
      const std::string answer = choice[0] == ' ' ? choice.substr(1) : choice;
      const bool is_ascii = answer.find('\xc3') == std::string::npos;
      raw.push_back(ll);
      by_bytes.push_back(ll / static_cast<double>(answer.size()));
      by_characters.push_back(ll / static_cast<double>(answer.size() / (is_ascii ? 1 : 2)));
    }
    picks_differ = picks_differ || best(raw) != best(by_bytes);
    // Each choice is once the right one.
    for (size_t label = 0; label < question.choices.size(); ++label, ++document) {
      for (size_t i = 0; i < question.choices.size(); ++i) {
        lines += request(document, i, label, question.context, question.choices[i]);
      }
      right += best(raw) == label ? 1 : 0;
      right_norm += best(by_characters) == label ? 1 : 0;
      right_bytes += best(by_bytes) == label ? 1 : 0;
    }
  }
  REQUIRE(picks_differ);
  lines += request(press::kFirstUnconditional, 0, 0, "Answer:", " one");
  write_text(scratch.file("c.jsonl"), lines);
  const press::EvaluationSets sets = load({{}, {}, {scratch.file("c.jsonl")}});
  std::string first;
  for (const unsigned n_threads : {1u, 3u}) {
    press::MeasureOptions options;
    options.n_threads = n_threads;
    double share = 0.0;
    options.progress = [&](const std::string&, double s) { share = s; };
    const press::Measurement m = measured(packed, sets, options);
    const press::ChoicesResult& result = m.choices.at(0).result;
    CHECK(share == 1.0);
    CHECK(m.choices[0].available == document);
    CHECK(result.acc.documents == document);
    CHECK(result.acc.right == right);
    CHECK(result.acc_norm.right == right_norm);
    CHECK(result.acc_bytes.right == right_bytes);
    const std::string report = press::measurement_to_json(m).dump();
    CHECK((first.empty() || report == first));
    first = report;
  }
}

TEST_CASE("Which choice wins depends on the score", "[evaluate]") {
  // Every right answer is the one that the model finds likeliest by bytes; so that is 1.
  const ScratchFolder scratch;
  const std::string packed = write_tiny_model(scratch);
  const ModelPtr model = open(packed);
  std::string lines;
  for (size_t q = 0; q < kQuestions.size(); ++q) {
    std::vector<double> by_bytes;
    for (const std::string& choice : kQuestions[q].choices) {
      by_bytes.push_back(log_likelihood(model, kQuestions[q].context, choice) /
                         static_cast<double>(choice.size() - (choice[0] == ' ' ? 1 : 0)));
    }
    for (size_t i = 0; i < kQuestions[q].choices.size(); ++i) {
      lines += request(q, i, best(by_bytes), kQuestions[q].context, kQuestions[q].choices[i]);
    }
  }
  write_text(scratch.file("c.jsonl"), lines);
  const press::ChoicesResult result =
      measured(packed, load({{}, {}, {scratch.file("c.jsonl")}})).choices.at(0).result;
  CHECK(result.acc_bytes.accuracy() == 1.0);
  CHECK(result.acc.accuracy() < 1.0);
}

TEST_CASE("What cannot be measured is refused", "[evaluate]") {
  const ScratchFolder scratch;
  const std::string packed = write_tiny_model(scratch);
  write_text(scratch.file("t.txt"), kText);
  const press::EvaluationSets sets = load({{scratch.file("t.txt")}, {}, {}});
  const auto refused = [&](const std::string& path, Code code, const std::string& says,
                           const std::string& reference = "") {
    press::MeasureOptions options;
    options.reference = reference;
    const Status status = press::measure(path, sets, options).status();
    CHECK(status.code() == code);
    CHECK_THAT(status.message(), Contains(says));
  };
  TinyModelOptions how;
  how.vocabulary = TinyVocabulary::None;
  refused(write_tiny_model(scratch, how, "ids.gguf"), Code::Usage, "--vocab");
  refused(scratch.file("t.txt"), Code::BadInput, "t.txt");
  refused(scratch.file("missing"), Code::BadInput, "missing");
  how = {};
  how.n_vocab = 320;
  refused(packed, Code::BadInput, "300, the reference one of 320",
          write_tiny_model(scratch, how, "large.gguf"));
  how = {};
  how.vocabulary = TinyVocabulary::Bytes;
  refused(packed, Code::BadInput, "vocabulary", write_tiny_model(scratch, how, "bytes.gguf"));

  std::vector<std::byte> bytes = read_bytes(packed);
  std::fill(bytes.end() - 400, bytes.end(), std::byte{0xff});
  write_bytes(scratch.file("nan.gguf"), bytes);
  refused(scratch.file("nan.gguf"), Code::BadInput, "not finite");
  write_text(scratch.file("c.jsonl"), "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n");
  const Status cloze =
      press::measure(scratch.file("nan.gguf"), load({{}, {scratch.file("c.jsonl")}, {}}), {})
          .status();
  CHECK(cloze.code() == Code::BadInput);
  CHECK_THAT(cloze.message(), Contains("nan.gguf: ") && Contains("c.jsonl: line 1: "));

  write_text(scratch.file("one.txt"), "a");
  CHECK(press::measure(packed, load({{scratch.file("one.txt")}, {}, {}}), {}).status().code() ==
        Code::BadInput);
  CHECK(press::load_evaluation_sets({}).status().code() == Code::Usage);
  write_text(scratch.file("empty.txt"), "");
  const Status empty = press::load_evaluation_sets({{scratch.file("empty.txt")}, {}, {}}).status();
  CHECK(empty.code() == Code::BadInput);
  CHECK_THAT(empty.message(), Contains("empty.txt: expected a text"));
}

TEST_CASE("Standard errors and intervals of known cases", "[evaluate]") {
  // Blocks of three with sums 6, 15, 24: mean 5, sqrt(3 / 2 * (81 + 0 + 81)) / 9 = sqrt(3).
  press::BlockRatio ratio(9);
  for (int i = 1; i <= 9; ++i) {
    ratio.add(i);
  }
  CHECK(ratio.block_length() == 3);
  CHECK(ratio.estimate().value == Approx(5.0));
  CHECK(ratio.estimate().standard_error == Approx(std::sqrt(3.0)));
  press::BlockRatio one(1);
  one.add(7.0, 2.0);
  CHECK(one.estimate().value == 3.5);
  CHECK(std::isnan(one.estimate().standard_error));
  // A ratio that is the same everywhere is certain, however its parts vary.
  press::BlockRatio steady(16);
  for (int i = 1; i <= 16; ++i) {
    steady.add(3.0 * i, i);
  }
  CHECK(steady.estimate().standard_error == Approx(0.0).margin(1e-12));

  const press::Interval half = press::wilson_interval(5, 10);
  CHECK(half.low == Approx(0.2366).margin(1e-4));
  CHECK(half.high == Approx(0.7634).margin(1e-4));
  const press::Interval none = press::wilson_interval(0, 10);
  CHECK(none.low == 0.0);
  CHECK(none.high == Approx(0.2775).margin(1e-4));
  const press::Interval all = press::wilson_interval(10, 10);
  CHECK(all.high == Approx(1.0));

  const press::Estimate mean = press::mean_estimate(6.0, 14.0, 3);  // 1, 2, 3
  CHECK(mean.value == Approx(2.0));
  CHECK(mean.standard_error == Approx(1.0 / std::sqrt(3.0)));
  CHECK(mean.interval().high == Approx(2.0 + 1.959964 / std::sqrt(3.0)));
  CHECK(press::exponential(mean).standard_error == Approx(std::exp(2.0) / std::sqrt(3.0)));
}
