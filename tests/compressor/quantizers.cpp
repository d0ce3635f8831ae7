// The quantizers that learn, on single matrices: against plain calculations in double, against each
// other, and with awkward moments.
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/tensor_random.h"
#include "compressor/quantizers/choose_codes.h"
#include "compressor/quantizers/fit_scales.h"
#include "compressor/quantizers/learnt.h"
#include "compressor/quantizers/nearest.h"
#include "compressor/quantizers/quantizer.h"
#include "compressor/quantizers/scale_search.h"
#include "formats/codec/lut.h"
#include "tests/compressor/quantizer_testing.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

#include <ATen/Parallel.h>

using namespace rwkv;
using namespace rwkv::test;

namespace {

constexpr double kDamping = 0.01;

// Inputs that depend on one another, of different sizes, some rarely seen.
at::Tensor correlated_moments(int64_t n, bool as_neurons, uint64_t seed) {
  const at::Generator random = press::tensor_random(seed);
  const int64_t n_common = n / 4;
  at::Tensor x = at::mm(at::randn({4 * n, n_common}, random, at::kFloat),
                        at::randn({n_common, n}, random, at::kFloat));
  x = x + 4 * at::randn({4 * n, n}, random, at::kFloat);
  x = x * at::randn({n}, random, at::kFloat).exp();
  if (as_neurons) {
    x = x.relu().square();
  }
  return at::mm(x.t(), x) / x.size(0);
}

press::QuantizerInput example(int64_t inputs, int64_t outputs, bool inputs_are_rows, Codec codec) {
  press::QuantizerInput input;
  const at::Generator random = press::tensor_random(7);
  input.weights = inputs_are_rows ? at::randn({inputs, outputs}, random, at::kFloat)
                                  : at::randn({outputs, inputs}, random, at::kFloat);
  input.moments = correlated_moments(inputs, inputs_are_rows, 8);
  input.inputs_are_rows = inputs_are_rows;
  input.codec = codec;
  return input;
}

std::string refusal(const press::QuantizerInput& input) {
  return press::make_refined_quantizer()->quantize(input).status().message();
}

LutMatrix parts_of(const press::QuantizerInput& input, const press::Quantized& result) {
  return lut_unpack(MatrixView::of(result.codes.data(), input.codec,
                                   static_cast<uint64_t>(input.weights.size(0)),
                                   static_cast<uint64_t>(input.weights.size(1))));
}

at::Tensor damped(const at::Tensor& moments) {
  const at::Tensor h = moments.to(at::kDouble) / moments.diagonal().to(at::kDouble).mean();
  return h + at::eye(h.size(0), at::kDouble) * kDamping;
}

// Sum of e moments e^T over the errors of a tile's outputs.
double output_error(const press::WeightTile& tile, const at::Tensor& moments) {
  const at::Tensor e = tile.error.to(at::kDouble);
  return (at::mm(moments.to(at::kDouble), e) * e).sum().item<double>();
}

// GPTQ as published, in double, with the scales of `parts`: how many codes differ from those.
int64_t differing_codes(const press::QuantizerInput& input, const LutMatrix& parts) {
  const bool by_input = input.inputs_are_rows;
  at::Tensor w = (by_input ? input.weights.t() : input.weights).to(at::kDouble).contiguous();
  const int64_t n = w.size(1);
  const at::Tensor inverse = at::linalg_solve(damped(input.moments), at::eye(n, at::kDouble));
  const at::Tensor u = at::linalg_cholesky((inverse + inverse.t()) / 2).t();
  const LutKind& kind = *codec_traits(input.codec).lut;
  const auto groups = static_cast<int64_t>(parts.scales.size() / parts.rows);
  int64_t n_differing = 0;
  for (int64_t j = 0; j < n; ++j) {
    const at::Tensor errors = at::zeros({w.size(0)}, at::kDouble);
    for (int64_t o = 0; o < w.size(0); ++o) {
      const int64_t row = by_input ? j : o;
      const int64_t col = by_input ? o : j;
      const double step = static_cast<double>(parts.row_scales[row]) *
                          static_cast<double>(parts.scales[row * groups + col / kind.group]);
      const double wanted = w[o][j].item<double>();
      int best = 0;
      for (int code = 1; code < 1 << kind.bits; ++code) {
        if (std::abs(wanted - step * parts.table[code]) <
            std::abs(wanted - step * parts.table[best])) {
          best = code;
        }
      }
      n_differing += best != parts.codes[row * static_cast<int64_t>(parts.cols) + col] ? 1 : 0;
      errors[o] = (wanted - step * parts.table[best]) / u[j][j].item<double>();
    }
    w.narrow(1, j, n - j).sub_(at::mm(errors.unsqueeze(1), u[j].narrow(0, j, n - j).unsqueeze(0)));
  }
  return n_differing;
}

// A tile of all outputs of an example, its scales and codes by GPTQ.
struct Example {
  Example(bool inputs_are_rows, Codec codec)
      : input(example(192, 128, inputs_are_rows, codec)),
        kind(*codec_traits(codec).lut),
        matrix(lut_matrix(kind, static_cast<uint64_t>(input.weights.size(0)),
                          static_cast<uint64_t>(input.weights.size(1)))),
        codebook(matrix.table, kind.bits),
        moments(press::InputMoments::of(input.moments, 192).take()) {
    for (float& scale : matrix.row_scales) {
      scale = press::unit_for(codebook, input.weights.abs().max().item<float>());
    }
    tile.emplace(input.weights, matrix, codebook,
                 inputs_are_rows ? press::Along::Outputs : press::Along::Inputs, kind.group, 0,
                 128);
    press::feed_errors(*tile, moments.triangle().take());
  }
  press::QuantizerInput input;
  const LutKind& kind;
  LutMatrix matrix;
  LutCodebook codebook;
  press::InputMoments moments;
  std::optional<press::WeightTile> tile;
};

}  // namespace

TEST_CASE("The codes of gptq are those of a plain calculation in double", "[quantizers]") {
  const bool inputs_are_rows = GENERATE(false, true);
  const Codec codec = GENERATE(Codec::Lut3, Codec::Lut4);
  INFO(inputs_are_rows);
  // More inputs than a block has.
  const press::QuantizerInput input = example(192, 64, inputs_are_rows, codec);
  const press::Quantized result = quantized(press::make_gptq_quantizer(), input);
  // Floats may decide a tie otherwise; the codes after it then differ too.
  CHECK(differing_codes(input, parts_of(input, result)) <= 192 * 64 / 500);
}

TEST_CASE("The scale of a group is the best of those tried", "[quantizers]") {
  const LutCodebook codebook(lut_table(3), 3);
  const at::Generator random = press::tensor_random(3);
  for (int round = 0; round < 20; ++round) {
    const at::Tensor x = at::randn({64}, random, at::kFloat);
    const at::Tensor weights = at::rand({64}, random, at::kFloat);
    const std::span<const float> values(x.data_ptr<float>(), 64);
    const float unit = press::unit_for(codebook, x.abs().max().item<float>());
    const int best = press::best_scale(codebook, values, {weights.data_ptr<float>(), 64}, unit, 0);
    const auto error = [&](int scale) {
      double sum = 0;
      for (int i = 0; i < 64; ++i) {
        double least = INFINITY;
        for (int code = 0; code < 8; ++code) {
          const double value = static_cast<double>(unit) * scale * lut_table(3)[code];
          least = std::min(least, std::pow(static_cast<double>(values[i]) - value, 2));
        }
        sum += weights[i].item<double>() * least;
      }
      return sum;
    };
    // Sizes in steps of 0.025, in whole units: no scale between 0.55 and 1.15 is much better.
    const double found = error(best);
    for (int scale = 61; scale <= 127; ++scale) {
      CHECK(found <= 1.05 * std::min(error(scale), error(-scale)));
    }
  }
  const std::vector<float> nothing(64, 0.0f);
  CHECK(press::best_scale(codebook, nothing, {}, 1.0f, 5) == 0);
  CHECK(press::best_scale(codebook, std::vector<float>(64, 1.0f), {}, 0.0f, 5) == 0);
}

TEST_CASE("Each quantizer that learns loses less of the outputs than the one before",
          "[quantizers]") {
  const Codec codec = GENERATE(Codec::Lut3, Codec::Lut4, Codec::Lut3Rows, Codec::Lut4Rows);
  const bool inputs_are_rows = GENERATE(false, true);
  INFO(codec_traits(codec).name << ' ' << inputs_are_rows);
  const press::QuantizerInput input = example(256, 192, inputs_are_rows, codec);
  const double nearest = quantized(press::make_nearest_quantizer(), input).error;
  const double weighted = quantized(press::make_weighted_quantizer(), input).error;
  const double gptq = quantized(press::make_gptq_quantizer(), input).error;
  const double refined = quantized(press::make_refined_quantizer(), input).error;
  // Weights that are the same throughout a group change nothing.
  CHECK(weighted < (inputs_are_rows ? 1.02 : 0.95) * nearest);
  CHECK(gptq < 0.9 * weighted);
  CHECK(refined < (inputs_are_rows ? 0.97 : 0.9) * gptq);
}

TEST_CASE("Refining never makes the outputs worse, and ends where no code can be improved",
          "[quantizers]") {
  const bool inputs_are_rows = GENERATE(false, true);
  Example it(inputs_are_rows, inputs_are_rows ? Codec::Lut4Rows : Codec::Lut3);
  const at::Tensor& h = it.moments.damped;
  double before = output_error(*it.tile, h);
  const double first = before;
  for (int round = 0; round < 25; ++round) {
    press::refine(*it.tile, h, 1);
    const double now = output_error(*it.tile, h);
    CHECK(now <= before * (1 + 1e-6));
    before = now;
  }
  CHECK(before < 0.97 * first);
  it.tile->store();
  const at::Tensor e = it.tile->error.to(at::kDouble);
  const at::Tensor g = at::mm(h.to(at::kDouble), e);
  const auto groups = static_cast<int64_t>(it.matrix.scales.size() / it.matrix.rows);
  for (int64_t i = 0; i < e.size(0); ++i) {
    const double own = h[i][i].item<double>();
    for (int64_t o = 0; o < e.size(1); ++o) {
      const int64_t row = inputs_are_rows ? i : o;
      const int64_t col = inputs_are_rows ? o : i;
      const double step = static_cast<double>(it.matrix.row_scales[row]) *
                          it.matrix.scales[row * groups + col / it.kind.group];
      const uint8_t code = it.matrix.codes[row * static_cast<int64_t>(it.matrix.cols) + col];
      const double gradient = g[i][o].item<double>();
      for (int other = 0; other < 1 << it.kind.bits; ++other) {
        const double change = step * (it.matrix.table[other] - it.matrix.table[code]);
        const double growth = change * change * own + 2 * change * gradient;
        if (growth < -1e-5 * before) {
          FAIL("input " << i << ", output " << o << " would lower the error by " << growth);
        }
      }
    }
  }
}

TEST_CASE("Scales are the least squares of all groups together, as far as integers go",
          "[quantizers]") {
  Example it(false, Codec::Lut4);
  press::WeightTile& tile = *it.tile;
  const at::Tensor& h = it.moments.damped;
  const at::Tensor a = tile.table_values().to(at::kDouble);
  const at::Tensor h64 = h.to(at::kDouble);
  const double before = output_error(tile, h);
  double best = 0;
  for (int64_t o = 0; o < tile.n_outputs(); ++o) {
    // The columns of the design: the table values of one group, zeros elsewhere.
    const at::Tensor design = at::zeros({tile.n_inputs(), tile.n_groups()}, at::kDouble);
    for (int64_t k = 0; k < tile.n_groups(); ++k) {
      design.select(1, k).narrow(0, k * 64, 64).copy_(a.select(1, o).narrow(0, k * 64, 64));
    }
    const at::Tensor w = tile.target.select(1, o).to(at::kDouble).unsqueeze(1);
    const at::Tensor normal = at::mm(design.t(), at::mm(h64, design));
    const at::Tensor s = at::linalg_solve(normal, at::mm(design.t(), at::mm(h64, w)));
    const at::Tensor e = at::mm(design, s) - w;
    best += (e * at::mm(h64, e)).sum().item<double>();
  }
  press::fit_scales(tile, h);
  const double after = output_error(tile, h);
  CHECK(after < before);
  CHECK(after >= best * (1 - 1e-6));
  CHECK(after - best < 0.25 * (before - best));
}

TEST_CASE("The number of threads changes no code", "[quantizers]") {
  const bool inputs_are_rows = GENERATE(false, true);
  const press::QuantizerInput input =
      example(256, 320, inputs_are_rows, inputs_are_rows ? Codec::Lut4Rows : Codec::Lut3);
  const int threads = at::get_num_threads();
  for (const press::QuantizerTraits& quantizer : press::quantizer_list()) {
    INFO(quantizer.name);
    const auto& make = quantizer.make;
    at::set_num_threads(1);
    const press::Quantized one = quantized(make(), input);
    at::set_num_threads(2);
    const press::Quantized two = quantized(make(), input);
    CHECK((one.codes == two.codes));
    CHECK((!one.values.defined() || at::equal(one.values, two.values)));
  }
  at::set_num_threads(threads);
}

TEST_CASE("Inputs that are never active, rows of zeros and outliers are no obstacle",
          "[quantizers]") {
  const bool inputs_are_rows = GENERATE(false, true);
  press::QuantizerInput input =
      example(192, 128, inputs_are_rows, inputs_are_rows ? Codec::Lut4Rows : Codec::Lut4);
  SECTION("a third of the inputs is always zero, and others are copies of one another") {
    input.moments.narrow(0, 0, 64).zero_();
    input.moments.narrow(1, 0, 64).zero_();
    input.moments.select(0, 70).copy_(input.moments.select(0, 71));
    input.moments.select(1, 70).copy_(input.moments.select(1, 71));
    const double nearest = quantized(press::make_nearest_quantizer(), input).error;
    const press::Quantized result = quantized(press::make_refined_quantizer(), input);
    CHECK(result.error < nearest);
    // Weights of silent inputs are rounded all the same: another text may wake them.
    const LutMatrix parts = parts_of(input, result);
    input.moments = at::eye(192);
    const double plain = quantized(press::make_nearest_quantizer(), input).error;
    CHECK(press::quantization_error(input, result.codes) < 10 * plain);
    CHECK(parts.codes.size() == 192 * 128);
  }
  SECTION("moments of four directions only") {
    const at::Tensor x = at::randn({4, 192}, press::tensor_random(5), at::kFloat);
    input.moments = at::mm(x.t(), x);
    CHECK(quantized(press::make_refined_quantizer(), input).error <
          0.5 * quantized(press::make_nearest_quantizer(), input).error);
  }
  SECTION("no input is ever active") {
    input.moments.zero_();
    const press::Quantized result = quantized(press::make_refined_quantizer(), input);
    input.moments = at::Tensor();
    CHECK(press::quantization_error(input, result.codes) <
          1.02 * quantized(press::make_nearest_quantizer(), input).error);
  }
  SECTION("a row of zeros, a group of zeros, an outlier") {
    input.weights.select(0, 3).zero_();
    input.weights.select(0, 5).narrow(0, 0, 64).zero_();
    input.weights[7][9] = 1000.0f;
    const press::Quantized result = quantized(press::make_refined_quantizer(), input);
    const LutMatrix parts = parts_of(input, result);
    CHECK(parts.row_scales[3] == 0.0f);
    std::vector<float> decoded(parts.rows * parts.cols);
    codec_traits(input.codec)
        .decode_rows(MatrixView::of(result.codes.data(), input.codec, parts.rows, parts.cols), 0,
                     parts.rows, decoded);
    CHECK(std::all_of(decoded.begin() + 3 * static_cast<int64_t>(parts.cols),
                      decoded.begin() + 4 * static_cast<int64_t>(parts.cols),
                      [](float value) { return value == 0.0f; }));
    // No code next to the outlier is small, so what is best for the outputs clips it.
    CHECK(decoded[7 * parts.cols + 9] > 500.0f);
    CHECK(result.error < quantized(press::make_nearest_quantizer(), input).error);
  }
  SECTION("zeros throughout") {
    input.weights.zero_();
    const press::Quantized result = quantized(press::make_refined_quantizer(), input);
    CHECK(result.error == 0.0);
  }
}

TEST_CASE("Moments that cannot be are refused in one line", "[quantizers]") {
  press::QuantizerInput input = example(64, 64, false, Codec::Lut3);
  const at::Tensor good = input.moments.clone();
  input.moments[3][4] = NAN;
  CHECK_THAT(refusal(input), Catch::Contains("finite moments"));
  input.moments = good.clone();
  input.moments[3][3] = INFINITY;
  CHECK_THAT(refusal(input), Catch::Contains("finite moments"));
  input.moments = -good;
  CHECK_THAT(refusal(input), Catch::Contains("negative square"));
  input.moments = good.clone();
  input.moments[3][4] = input.moments[4][3] = 1e6f * good.max();
  CHECK_THAT(refusal(input), Catch::Contains("not positive definite"));
  input.moments = at::eye(32);
  CHECK_THAT(refusal(input), Catch::Contains("expected moments of 64 inputs, found 32"));
  input.moments = good;
  input.weights[2][5] = NAN;
  CHECK_THAT(refusal(input), Catch::Contains("row 2, column 5"));
}

TEST_CASE("Without moments, and in other codecs, all quantizers round to nearest", "[quantizers]") {
  press::QuantizerInput input = example(64, 64, false, Codec::I8Row);
  const auto same = [&] {
    return quantized(press::make_refined_quantizer(), input).codes ==
           quantized(press::make_nearest_quantizer(), input).codes;
  };
  CHECK(same());
  input.codec = Codec::Lut4Rows;
  CHECK_FALSE(same());
  input.moments = at::Tensor();
  CHECK(same());
}
