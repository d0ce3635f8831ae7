// The codebook quantizers, on single matrices: k-means, least squares, bytes, and what they lose
// against each other.
#include "compressor/quantizers/gptvq.h"

#include <ATen/Parallel.h>

#include <cmath>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/tensor_random.h"
#include "compressor/quantizers/codebook.h"
#include "compressor/quantizers/codebook_tile.h"
#include "compressor/quantizers/feed_errors.h"
#include "compressor/quantizers/learnt.h"
#include "compressor/quantizers/nearest.h"
#include "formats/codec/lut.h"
#include "tests/compressor/quantizer_testing.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

at::Tensor moments_of(int64_t n) {
  const at::Generator random = press::tensor_random(8);
  const at::Tensor x = at::mm(at::randn({4 * n, n / 4}, random, at::kFloat),
                              at::randn({n / 4, n}, random, at::kFloat)) +
                       4 * at::randn({4 * n, n}, random, at::kFloat);
  return at::mm(x.t(), x) / x.size(0);
}

// Weights in two heaps and far from normal, if they are asked to be.
press::QuantizerInput example(int64_t inputs, int64_t outputs, bool inputs_are_rows, Codec codec,
                              bool is_skewed = false) {
  press::QuantizerInput input;
  const at::Generator random = press::tensor_random(7);
  const std::vector<int64_t> shape =
      inputs_are_rows ? std::vector{inputs, outputs} : std::vector{outputs, inputs};
  input.weights = at::randn(shape, random, at::kFloat);
  if (is_skewed) {
    input.weights = 0.1f * input.weights + (input.weights > 0.5).to(at::kFloat);
  }
  input.moments = moments_of(inputs);
  input.inputs_are_rows = inputs_are_rows;
  input.codec = codec;
  return input;
}

double output_error(const press::CodebookTile& tile, const at::Tensor& moments) {
  const at::Tensor e = tile.error.to(at::kDouble);
  return (at::mm(moments.to(at::kDouble), e) * e).sum().item<double>();
}

}  // namespace

TEST_CASE("Centroids are means of what is nearest to them", "[gptvq]") {
  const at::Tensor values = at::randn({256}, press::tensor_random(1), at::kFloat);
  const at::Tensor weights = at::rand({256}, press::tensor_random(2), at::kFloat);
  std::vector<press::WeightedValue> points;
  for (int i = 0; i < 256; ++i) {
    points.push_back({values[i].item<float>(), weights[i].item<float>()});
  }
  const std::vector<float> centroids = press::centroids_of(points, 8);
  REQUIRE(centroids.size() == 8);
  CHECK(std::is_sorted(centroids.begin(), centroids.end()));
  for (size_t k = 0; k < 8; ++k) {
    double product = 0;
    double weight = 0;
    for (const auto& [value, own] : points) {
      size_t nearest = 0;
      for (size_t other = 1; other < 8; ++other) {
        nearest = std::abs(value - centroids[other]) < std::abs(value - centroids[nearest])
                      ? other
                      : nearest;
      }
      CHECK(press::nearest_of(centroids, value) == nearest);
      product += nearest == k ? static_cast<double>(own) * static_cast<double>(value) : 0;
      weight += nearest == k ? static_cast<double>(own) : 0;
    }
    CHECK(static_cast<double>(centroids[k]) == Approx(product / weight).margin(1e-5));
  }
}

TEST_CASE("Fewer different values than centroids, and one value, are no obstacle", "[gptvq]") {
  std::vector<press::WeightedValue> points = {{2, 1}, {2, 1}, {-1, 1}};
  std::vector<float> centroids = press::centroids_of(points, 8);
  CHECK(centroids[press::nearest_of(centroids, 2)] == 2.0f);
  CHECK(centroids[press::nearest_of(centroids, -1)] == -1.0f);
  press::round_codebook(centroids);
  CHECK(centroids.back() == Approx(2.0).epsilon(1e-3));
  points.assign(5, {0, 1});
  centroids = press::centroids_of(points, 4);
  press::round_codebook(centroids);
  CHECK((centroids == std::vector<float>(4, 0.0f)));
}

TEST_CASE("A codebook takes a quarter of a bit of each of its weights", "[gptvq]") {
  const press::CodebookShape three = press::CodebookShape::of(3, 256);
  CHECK(three.values == 8);
  CHECK(three.inputs * three.outputs == 256);
  CHECK(three.bytes(256, 256) == 256 * 256 * 3 / 8 + 256 * (8 + 2));
  const press::CodebookShape four = press::CodebookShape::of(4, 256);
  CHECK(four.inputs * four.outputs == 512);
  CHECK(four.bytes(256, 256) == 256 * 256 / 2 + 128 * (16 + 2));
  // Long outputs are cut evenly, short ones share.
  CHECK(press::CodebookShape::of(3, 896).inputs == 224);
  CHECK(press::CodebookShape::of(3, 64).outputs == 4);
  CHECK(press::CodebookShape::of(3, 100).bytes(100, 3) == (300 * 3 + 7) / 8 + 2 * (8 + 2));
}

TEST_CASE("Codebooks are the least squares of their codes, as far as bytes go", "[gptvq]") {
  const press::QuantizerInput input = example(320, 12, false, Codec::Lut3);
  const auto moments = press::InputMoments::of(input.moments, 320).take();
  press::CodebookTile tile(input.weights.t().contiguous(), press::CodebookShape::of(3, 320));
  press::feed_errors_in_blocks(tile, moments.triangle().take(),
                               press::CodebookShape::of(3, 320).inputs);
  const at::Tensor h = moments.damped.to(at::kDouble);
  const double before = output_error(tile, moments.damped);
  // The columns of the design: where an output has each value of each of its two codebooks.
  double best = 0;
  const at::Tensor values = tile.values();
  for (int64_t o = 0; o < 12; ++o) {
    std::vector<at::Tensor> columns;
    for (int64_t first = 0; first < 320; first += 160) {
      const at::Tensor own = values.select(1, o).narrow(0, first, 160);
      std::vector<float> seen;
      for (int64_t i = 0; i < 160; ++i) {
        const float value = own[i].item<float>();
        if (std::find(seen.begin(), seen.end(), value) == seen.end()) {
          seen.push_back(value);
          columns.push_back(at::zeros({320}, at::kDouble));
          columns.back().narrow(0, first, 160).copy_(own == value);
        }
      }
    }
    const at::Tensor design = at::stack(columns, 1);
    const at::Tensor w = tile.target.select(1, o).to(at::kDouble).unsqueeze(1);
    const at::Tensor normal = at::mm(design.t(), at::mm(h, design));
    const at::Tensor c = at::linalg_solve(normal, at::mm(design.t(), at::mm(h, w)));
    const at::Tensor e = at::mm(design, c) - w;
    best += (e * at::mm(h, e)).sum().item<double>();
  }
  tile.fit(moments.damped);
  const double after = output_error(tile, moments.damped);
  CHECK(after < before);
  CHECK(after >= best * (1 - 1e-5));
  CHECK(after - best < 0.5 * (before - best));
}

TEST_CASE("Codebooks lose less than rounding to nearest, whatever the shape", "[gptvq]") {
  const bool inputs_are_rows = GENERATE(false, true);
  const int64_t n_inputs = GENERATE(64, 100, 320);
  const Codec codec = GENERATE(Codec::Lut3, Codec::Lut4);
  INFO(inputs_are_rows << ' ' << n_inputs << ' ' << codec_traits(codec).name);
  const press::QuantizerInput input = example(n_inputs, 72, inputs_are_rows, codec);
  const press::Quantized result = quantized(press::make_gptvq_quantizer(), input);
  CHECK(result.codes.empty());
  REQUIRE((result.values.sizes() == input.weights.sizes()));
  CHECK(result.error == Approx(press::quantization_error(input, result.values)));
  // Of 64 inputs, outputs of different size share a codebook of 4 bits, and have no scales.
  CHECK(result.error <
        (n_inputs > 64 ? 1.0 : 1.2) * quantized(press::make_nearest_quantizer(), input).error);
  CHECK(press::make_gptvq_quantizer()->stored_as(codec) == Codec::F16);
}

TEST_CASE("A learnt table suits weights that are far from normal", "[gptvq]") {
  const bool inputs_are_rows = GENERATE(false, true);
  const Codec codec = GENERATE(Codec::Lut2, Codec::Lut3, Codec::Lut4);
  INFO(inputs_are_rows << ' ' << codec_traits(codec).name);
  const press::QuantizerInput input = example(192, 128, inputs_are_rows, codec, true);
  const double uniform = quantized(press::make_gptq_uniform_quantizer(), input).error;
  const double fixed = quantized(press::make_gptq_quantizer(), input).error;
  const double learnt = quantized(press::make_gptvq_table_quantizer(), input).error;
  CHECK(learnt < 0.9 * uniform);
  CHECK(learnt < 0.9 * fixed);
}

TEST_CASE("The number of threads changes no codebook", "[gptvq]") {
  const bool inputs_are_rows = GENERATE(false, true);
  const press::QuantizerInput input = example(256, 320, inputs_are_rows, Codec::Lut3);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const press::Quantized one = quantized(press::make_gptvq_quantizer(), input);
  const press::Quantized one_table = quantized(press::make_gptvq_table_quantizer(), input);
  at::set_num_threads(2);
  CHECK(one.values.equal(quantized(press::make_gptvq_quantizer(), input).values));
  CHECK((one_table.codes == quantized(press::make_gptvq_table_quantizer(), input).codes));
  at::set_num_threads(threads);
}

TEST_CASE("Codebooks: zeros, silent inputs and bad values", "[gptvq]") {
  press::QuantizerInput input = example(192, 64, false, Codec::Lut3);
  const auto refusal = [&](const std::unique_ptr<press::Quantizer>& quantizer) {
    return quantizer->quantize(input).status().message();
  };
  SECTION("rows of zeros stay zeros") {
    input.weights.narrow(0, 3, 4).zero_();
    const press::Quantized result = quantized(press::make_gptvq_quantizer(), input);
    CHECK(result.values.narrow(0, 3, 4).abs().max().item<float>() == 0.0f);
    quantized(press::make_gptvq_table_quantizer(), input);
    input.weights.zero_();
    CHECK(quantized(press::make_gptvq_quantizer(), input).error == 0.0);
    CHECK(quantized(press::make_gptvq_table_quantizer(), input).error == 0.0);
  }
  SECTION("no input is ever active") {
    input.moments.zero_();
    CHECK(at::isfinite(quantized(press::make_gptvq_quantizer(), input).values).all().item<bool>());
  }
  SECTION("a weight that is no number, or that f16 does not hold") {
    input.weights[2][5] = NAN;
    CHECK_THAT(refusal(press::make_gptvq_quantizer()), Catch::Contains("row 2, column 5"));
    CHECK_THAT(refusal(press::make_gptvq_table_quantizer()), Catch::Contains("row 2, column 5"));
    input.weights[2][5] = 1e6f;
    CHECK_THAT(refusal(press::make_gptvq_quantizer()), Catch::Contains("row 2, column 5"));
  }
  SECTION("moments of other inputs, or that are no numbers") {
    input.moments = at::eye(64);
    CHECK_THAT(refusal(press::make_gptvq_quantizer()),
               Catch::Contains("expected moments of 192 inputs, found 64"));
    input.moments = at::full({192, 192}, NAN);
    CHECK_THAT(refusal(press::make_gptvq_quantizer()), Catch::Contains("finite moments"));
  }
}
