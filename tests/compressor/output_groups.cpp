// Groups of the head's outputs: against a plain calculation, and what they are for.
#include "compressor/quantizers/output_groups.h"

#include <ATen/Parallel.h>

#include <set>

#include "compressor/llama_cpp/block_rounding.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/tensor_random.h"
#include "compressor/quantizers/learnt.h"
#include "tests/compressor/quantizer_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

constexpr int64_t kWords = 256;
constexpr int64_t kChannels = 128;
constexpr int64_t kTokens = 2048;

// A head of 8 topics, and inputs that are each about one of them.
struct Head {
  explicit Head(int64_t n_tokens = kTokens) {
    const at::Generator random = press::tensor_random(11);
    const at::Tensor topics = at::randn({8, kChannels}, random, at::kFloat);
    const at::Tensor topic = at::randint(0, 8, {kWords}, random, at::kLong);
    rows = topics.index_select(0, topic) + at::randn({kWords, kChannels}, random, at::kFloat);
    const at::Tensor about = at::randint(0, 8, {n_tokens}, random, at::kLong);
    inputs = 0.1f * topics.index_select(0, about) +
             0.1f * at::randn({n_tokens, kChannels}, random, at::kFloat);
    inputs = inputs.contiguous();
  }
  double divergence(const at::Tensor& others) const {
    const at::Tensor p = at::log_softmax(at::mm(inputs, rows.t()), 1);
    const at::Tensor q = at::log_softmax(at::mm(inputs, others.t()), 1);
    return (p.exp() * (p - q)).sum(1).mean().item<double>();
  }
  at::Tensor rows, inputs;
};

press::OutputGroups groups_of(const Head& head) {
  auto groups = press::OutputGroups::of_head(head.inputs, head.rows, 1);
  REQUIRE_OK(groups.status());
  return groups.take();
}

}  // namespace

TEST_CASE("Each row of the head is in one group, and a group weighs inputs by what errors cost",
          "[quantizers]") {
  const auto [n_tokens, even] =
      GENERATE(std::pair(kTokens, 0.2), std::pair(int64_t{4} * 64 * 256, 0.1));
  const Head head(n_tokens);
  const press::OutputGroups groups = groups_of(head);
  CHECK(groups.size() == kWords / 16);
  std::set<int64_t> seen;
  const at::Tensor p = at::softmax(at::mm(head.inputs, head.rows.t()), 1).to(at::kDouble);
  for (int64_t k = 0; k < groups.size(); ++k) {
    at::Tensor cost = at::zeros({n_tokens}, at::kDouble);
    for (int64_t i = 0; i < groups.rows(k).numel(); ++i) {
      const int64_t row = groups.rows(k)[i].item<int64_t>();
      CHECK(seen.insert(row).second);
      cost += p.select(1, row) * (1 - p.select(1, row));
    }
    cost = (1 - even) * cost / cost.mean() + even;
    const at::Tensor x = head.inputs.to(at::kDouble);
    const at::Tensor wanted = at::mm(x.t(), x * cost.unsqueeze(1)) / n_tokens;
    CHECK(at::allclose(groups.moments(k).to(at::kDouble), wanted, 1e-4, 1e-6));
  }
  CHECK(seen.size() == kWords);
}

TEST_CASE("With groups the codes of the head change its predictions less, with any threads",
          "[quantizers]") {
  const Head head;
  press::QuantizerInput input;
  input.weights = head.rows.contiguous();
  input.moments = at::mm(head.inputs.t(), head.inputs) / kTokens;
  input.codec = Codec::Lut3;
  const auto divergence = [&](const press::Quantized& result) {
    const at::Tensor values = at::empty_like(input.weights);
    codec_traits(input.codec)
        .decode_rows(MatrixView::of(result.codes.data(), input.codec, kWords, kChannels), 0, kWords,
                     {values.data_ptr<float>(), kWords * kChannels});
    return head.divergence(values);
  };
  const auto refined = press::make_refined_quantizer();
  const press::Quantized without = quantized(refined, input);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const press::OutputGroups one = groups_of(head);
  input.groups = &one;
  const press::Quantized result = quantized(refined, input);
  at::set_num_threads(2);
  const press::OutputGroups two = groups_of(head);
  input.groups = &two;
  CHECK((quantized(refined, input).codes == result.codes));
  CHECK(divergence(result) < 0.9 * divergence(without));

  const auto blocks = [&](const press::InputStatistics& statistics) {
    return press::round_to_type(input.weights, DType::Q4_0, statistics).take();
  };
  const press::RoundedMatrix grouped = blocks({{}, {}, &two});
  at::set_num_threads(1);
  CHECK((blocks({{}, {}, &one}).bytes == grouped.bytes));
  at::set_num_threads(threads);
  CHECK(head.divergence(grouped.values) <
        0.9 * head.divergence(blocks({input.moments, {}}).values));
}

TEST_CASE("A small vocabulary, or one with NaN, is one group", "[quantizers]") {
  const Head head;
  const at::Tensor few = head.rows.narrow(0, 0, 31);
  const auto one = press::OutputGroups::of_head(head.inputs, few, 1).take();
  CHECK(one.size() == 1);
  CHECK(one.rows(0).numel() == 31);
  CHECK(press::OutputGroups::of_head(head.inputs, head.rows, 1, 1).take().size() == 1);
  const at::Tensor plain = at::mm(head.inputs.t(), head.inputs) / kTokens;
  CHECK(at::allclose(one.moments(0), plain));
  const at::Tensor broken = head.rows.clone();
  broken[3][5] = NAN;
  CHECK(press::OutputGroups::of_head(head.inputs, broken, 1).take().size() == 1);
}
