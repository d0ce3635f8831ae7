// The demo model as a user meets it: it answers, int8 costs it next to nothing, RWKV-Lite at k = 8
// costs most of it, and a little training wins much of that back. Every figure is in
// docs/quality.md.
#include <ATen/core/Tensor.h>

#include "compressor/evaluate/cloze.h"
#include "tests/compressor/demo_model.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

// The demo model with stories of its own to convert it on and to ask it about.
struct Lab {
  ScratchFolder scratch;
  DemoModel demo;
  Conversion how;

  Lab(int n_train, int n_test) : demo(demo_model(scratch, n_train, n_test)) {
    how.vocab = demo.vocabulary;
  }

  /// What the model answers once converted as `how` says.
  press::ClozeResult answers_of(const std::string& name) {
    const std::string output = scratch.file(name + ".gguf");
    const auto model = convert_and_open(demo.checkpoint, output, how);
    auto set = press::read_cloze(demo.questions, {});
    REQUIRE_OK(set.status());
    CHECK(set.value().malformed.count == 0);
    auto result = press::evaluate_cloze(model, set.value(), {});
    REQUIRE_OK(result.status());
    return result.take();
  }
};

}  // namespace

TEST_CASE("The demo model answers questions about stories it never saw", "[demo]") {
  Lab lab(100, 1000);
  const auto accuracy = [&](const std::string& preset) {
    lab.how.preset = preset;
    const press::ClozeResult result = lab.answers_of(preset);
    CHECK(result.all.documents == 1000);
    for (const auto& [kind, tally] : result.kinds) {
      fmt::print("demo model, {}: {:<7} {:5.1f} % of {}\n", preset, kind, 100 * tally.accuracy(),
                 tally.documents);
      CHECK(tally.documents > 5);
    }
    return result.all.accuracy();
  };
  const double half = accuracy("fp16");
  CHECK(half >= 0.85);
  CHECK(std::abs(accuracy("int8") - half) <= 0.02);
}

TEST_CASE("A few steps of distillation bring a demo model at k = 8 nearer to what it was",
          "[demo]") {
  Lab lab(2000, 100);
  lab.how.texts = {lab.demo.train};
  lab.how.train_data = {lab.demo.train};
  const auto perplexity = [&](const std::string& name, const std::string& stages) {
    lab.how.work = lab.scratch.file(name);
    lab.how.recipe = "name: demo\ncalibration: {samples: 32, length: 128}\nstages:\n" + stages +
                     "  - quantize: {codec: f16}\n";
    const press::ClozeResult result = lab.answers_of(name);
    fmt::print("demo model, {}: {:.1f} %, perplexity of the answer {:.2f}\n", name,
               100 * result.all.accuracy(), result.perplexity().value);
    return result.perplexity().value;
  };
  const std::string low_rank = "  - low_rank: {factor: 8}\n";
  const double dense = perplexity("dense", "");
  const double bare = perplexity("bare", low_rank);
  const double trained = perplexity(
      "trained", low_rank + "  - refit\n  - train: {steps: 40, batch: 4, length: 128}\n");
  CHECK(dense < trained);
  CHECK(trained < bare);
}
