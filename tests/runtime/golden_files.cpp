// The golden packed files of every format version that loads give the logits that the program gave
// when it wrote their format first; those of lut4 when its kernels were new.
#include <algorithm>
#include <cmath>

#include "runtime/model/evaluator.h"
#include "tests/support/catch.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace rwkv::edge {
namespace {

using test::golden_file;

struct Case {
  const char* file;
  const char* logits;
};
constexpr Case kCases[] = {
    {"format2-v5.2-f16.gguf", "v5.2-f16.logits.f32"},
    {"format2-v7-i8_row.gguf", "v7-i8_row.logits.f32"},
    {"format2-v6-lite.gguf", "v6-lite.logits.f32"},
    {"format3-v5.2-f16.gguf", "v5.2-f16.logits.f32"},
    {"format3-v7-i8_row.gguf", "v7-i8_row.logits.f32"},
    {"format3-tiny-v7-lut4.gguf", "tiny-v7-lut4.logits.f32"},
};
// Products of f16 are summed in another order by each set of kernels.
constexpr float kTolerance = 1e-4f;

TEST_CASE("Golden packed files give the recorded logits") {
  const std::vector<int32_t> tokens = test::read_i32(golden_file("tokens.i32"));
  for (const Case& each : kCases) {
    INFO(each.file);
    const auto model = Model::open(golden_file(each.file));
    REQUIRE_OK(model.status());
    const std::vector<float> expected = test::read_f32(golden_file(each.logits));
    std::vector<float> logits(tokens.size() * model.value()->config().n_vocab);
    REQUIRE(logits.size() == expected.size());
    Evaluator evaluator(model.value(), {.n_threads = 1, .max_chunk = tokens.size()});
    State state = model.value()->empty_state();
    REQUIRE_OK(evaluator.forward(tokens, state, Logits::All, logits));
    float largest = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      const float difference = std::fabs(logits[i] - expected[i]);
      largest = std::isnan(difference) ? HUGE_VALF : std::max(largest, difference);
    }
    CHECK(largest <= kTolerance);
  }
}

}  // namespace
}  // namespace rwkv::edge
