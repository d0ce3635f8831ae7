// Estimated losses: gradients at the outputs of products, what changes of a matrix are predicted to
// cost against what they cost, curves of estimates, plans from them.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "compressor/calibrate/output_errors.h"
#include "compressor/calibrate/sensitivity.h"
#include "compressor/calibrate/walk.h"
#include "compressor/model/ends.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/planner/estimate.h"
#include "compressor/planner/fit.h"
#include "compressor/planner/rank_correlation.h"
#include "compressor/planner/scales.h"
#include "tests/compressor/planner_testing.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

press::Curves estimated(const press::PlanSubject& subject) {
  auto curves = press::estimate_curves(subject, {});
  REQUIRE_OK(curves.status());
  return curves.take();
}

at::Tensor noise(uint64_t seed, int64_t rows, int64_t columns) {
  return at::randn({rows, columns}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

// All losses of settings that lose something.
std::vector<double> losses_of(const press::Curves& curves) {
  std::vector<double> losses;
  for (const auto& points : curves.matrices) {
    for (const press::MatrixPoint& point : points) {
      if (point.setting.codec == Codec::F16 ? point.setting.factor > 0
                                            : point.setting.factor == 0) {
        losses.push_back(point.loss);
      }
    }
  }
  return losses;
}

}  // namespace

TEST_CASE("Rank correlation by hand", "[planner][estimates]") {
  CHECK(press::rank_correlation({1, 2, 3}, {10, 20, 1000}) == Approx(1));
  CHECK(press::rank_correlation({1, 2, 3}, {3, 2, 1}) == Approx(-1));
  // Ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3.
  CHECK(press::rank_correlation({1, 2, 2, 3}, {1, 2, 3, 4}) == Approx(4.5 / std::sqrt(4.5 * 5)));
  CHECK(press::rank_correlation({1, 1}, {1, 2}) == 0);
  CHECK(press::rank_correlation({}, {}) == 0);
}

TEST_CASE("Scales of estimates: by kind, towards the others, without what is far",
          "[planner][estimates]") {
  press::Scales scales;
  CHECK(scales.of("a") == 1);
  scales.add("a", 1e-9, 1);  // below what can be measured
  CHECK(scales.of("a") == 1);
  for (int i = 0; i < 3; ++i) {
    scales.add("a", 0.1, 0.2);
    scales.add("b", 0.1, 0.2);
  }
  CHECK(scales.of("a") == Approx(2));
  CHECK(scales.of("none") == Approx(2));
  scales.add("c", 1e-3, 1);  // a thousandfold counts as little more than fourfold
  CHECK(scales.of("c") > 2);
  CHECK(scales.of("c") < 5);
  CHECK(scales.of("a") == Approx(2));
}

TEST_CASE("Moments of the embedding are those of the gradients there, without their peaks",
          "[planner][estimates]") {
  const SmallSubject small("v7");
  const press::PlanSubject& subject = *small.subject;
  const at::Tensor& tokens = subject.calibration.tokens;
  const auto found =
      press::measure_sensitivity(subject.source, subject.model.config, tokens, 1, [](double) {});
  REQUIRE_OK(found.status());
  at::Tensor g = found.value().embedding.clone();
  const at::Tensor norms = g.norm(2, 1);
  const float most =
      std::get<0>(norms.sort())[norms.numel() - 1 - norms.numel() / 10].item<float>();
  REQUIRE(norms.max().item<float>() > 1.1f * most);
  for (int64_t i = 0; i < g.size(0); ++i) {
    g[i] *= std::min(1.0f, most / norms[i].item<float>());
  }
  at::Tensor wanted = g.t().mm(g) / g.size(0);
  const auto even = static_cast<double>(8 * g.size(1));
  const double share = even / (even + static_cast<double>(g.size(0)));
  wanted = wanted * (1 - share) + at::eye(g.size(1)) * wanted.diagonal().mean() * share;
  const int before = at::get_num_threads();
  std::vector<at::Tensor> moments;
  for (const int n : {1, 3}) {
    at::set_num_threads(n);
    auto own =
        press::embedding_moments(subject.source, subject.model.config, tokens, 1, [](double) {});
    REQUIRE_OK(own.status());
    moments.push_back(own.take());
  }
  at::set_num_threads(before);
  CHECK(moments[0].equal(moments[1]));
  CHECK((moments[0] - wanted).abs().max().item<float>() <
        1e-4f * wanted.diagonal().max().item<float>());
}

TEST_CASE("Of a long text the moments of the embedding take a part", "[planner][estimates]") {
  CHECK(press::embedding_positions(64, 100) == 100);
  CHECK(press::embedding_positions(64, 100000) == 8192);
  CHECK(press::embedding_positions(4096, 100000) == 16384);
}

TEST_CASE("Gradients tell what a small change of a matrix costs", "[planner][estimates]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  CAPTURE(arch);
  const SmallSubject small(arch);
  const press::PlanSubject& subject = *small.subject;
  const at::Tensor& tokens = subject.calibration.tokens;
  const auto found =
      press::measure_sensitivity(subject.source, subject.model.config, tokens, 1, [](double) {});
  REQUIRE_OK(found.status());
  const auto head = press::load_named(subject.source, "head.weight");
  REQUIRE_OK(head.status());
  const int64_t length = tokens.size(1);
  std::vector<double> ratios;
  for (size_t changed = 0; changed < subject.matrices.size(); ++changed) {
    const press::PlannedMatrix& matrix = subject.matrices[changed];
    if (matrix.block < 0) {
      continue;
    }
    auto walk = press::Walk::begin(subject.source, subject.model.config, tokens);
    REQUIRE_OK(walk.status());
    press::Walk dense = walk.take();
    press::Walk other = dense;
    double estimate = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(subject.model.config.n_layer); ++i) {
      const auto block = press::Block::load(subject.source, subject.model.config, i);
      REQUIRE_OK(block.status());
      std::vector<at::Tensor> inputs;
      dense.advance(*block.value(),
                    [&](const std::string& /*name*/, const at::Tensor& x) { inputs.push_back(x); },
                    {matrix.product});
      if (i == matrix.block) {
        at::Tensor& w = block.value()->linears.at(matrix.product).dense;
        const at::Tensor change =
            noise(changed, w.size(0), w.size(1)) * (0.02 * w.square().mean().sqrt());
        const press::ProductSeen seen{
            at::cat(inputs, 0), found.value().products[static_cast<size_t>(i)].at(matrix.product)};
        estimate = press::rounding_distance(seen, change);
        w = w + change;
      }
      other.advance(*block.value(), {});
    }
    const auto at_head = [&](const press::Walk& of) {
      const at::Tensor hidden = of.hidden().view({-1, length, head.value().size(1)});
      const auto z = press::head_input(
          subject.source, hidden.narrow(1, 0, length - 1).reshape({-1, head.value().size(1)}));
      REQUIRE_OK(z.status());
      return z.value();
    };
    const double kl =
        press::head_distances(at_head(dense), head.value(), {at_head(other)}, head.value())[0];
    if (kl > 1e-7) {
      ratios.push_back(std::log(kl / estimate));
      INFO(matrix.name << ": " << kl << " estimated " << estimate);
      CHECK(std::abs(ratios.back()) < std::log(4.0));
    }
  }
  REQUIRE(ratios.size() >= 6);
  double mean = 0;
  for (const double ratio : ratios) {
    mean += ratio / static_cast<double>(ratios.size());
  }
  CHECK(std::abs(mean) < std::log(1.5));
}

TEST_CASE("A pair's distance is that of its product", "[planner][estimates]") {
  const press::ProductSeen seen{noise(1, 700, 24), noise(2, 700, 40).to(at::kBFloat16)};
  const at::Tensor w = noise(3, 40, 24);
  const press::Factors whole = press::factorise(w, {}, 16, 1);
  const std::vector<double> distances = press::pair_distances(seen, w, whole, {16, 5, 1});
  for (size_t i = 0; i < 3; ++i) {
    const int64_t rank = std::vector<int64_t>{16, 5, 1}[i];
    const at::Tensor change = at::mm(whole.b.narrow(1, 0, rank), whole.a.narrow(0, 0, rank)) - w;
    const at::Tensor along =
        (seen.gradients.to(at::kFloat) * at::mm(seen.inputs, change.t())).sum(1);
    CHECK(distances[i] == Approx(along.square().mean().item<double>() / 2).epsilon(1e-4));
  }
}

TEST_CASE("Estimated curves order choices as measured ones do", "[planner][estimates]") {
  const std::string arch = GENERATE("v5.2", "v7");
  CAPTURE(arch);
  SmallSubject small(arch);
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::F16, Codec::I8Row, Codec::Lut4, Codec::Lut2});
  const press::Curves estimates = estimated(subject);
  REQUIRE_OK(press::check_curves(estimates, subject));
  CHECK(estimates.matrices.size() == subject.matrices.size());
  CHECK(estimates.samples.size() == 32);
  CHECK(estimates.lora.size() == 4);
  CHECK((estimates.lora.back().loss > 0) == (arch == "v7"));
  CHECK(estimates.uniform.size() == press::uniform_points(subject).size());
  const auto measured = press::measure_curves(subject, *meter_of(subject), {});
  REQUIRE_OK(measured.status());
  CHECK(press::rank_correlation(losses_of(estimates), losses_of(measured.value())) > 0.85);
  CHECK(estimates.dense == Approx(measured.value().dense).epsilon(1e-4));
}

TEST_CASE("Estimates: same bits with any number of threads, and after interruptions",
          "[planner][estimates]") {
  SmallSubject small("v7");
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::F16, Codec::Lut3});
  const std::string whole = press::curves_text("key", estimated(subject));
  const int before = at::get_num_threads();
  at::set_num_threads(before == 1 ? 3 : 1);
  CHECK(press::curves_text("key", estimated(subject)) == whole);
  at::set_num_threads(before);

  std::string kept;
  size_t n_steps = 0;
  press::CurveOptions options;
  options.save = [&](const press::Curves& curves) -> Status {
    kept = press::curves_text("key", curves);
    return ++n_steps < 2 ? Status() : failed("interrupted");
  };
  press::Curves begun;
  bool is_done = false;
  size_t n_runs = 0;
  while (!is_done && ++n_runs < 20) {
    n_steps = 0;
    is_done = press::estimate_curves(subject, options, begun).ok();
    auto read = press::parse_curves(kept, "key");
    REQUIRE_OK(read.status());
    REQUIRE_OK(press::check_curves(read.value(), subject));
    begun = read.take();
  }
  CHECK(n_runs > 1);
  CHECK(kept == whole);
}

TEST_CASE("A plan from estimates fits its budget", "[planner][estimates]") {
  const ScratchFolder scratch;
  const std::string path = write_synth(scratch, "v5.2");
  auto opened = press::open_checkpoint(path);
  REQUIRE_OK(opened.status());
  const press::Checkpoint checkpoint = opened.take();
  const auto model = press::identify_checkpoint(*checkpoint.source);
  REQUIRE_OK(model.status());
  press::FitOptions options;
  options.path = path;
  options.vocabulary = Vocabulary{};
  options.calibration = {write_text(scratch, 12000)};
  options.curves = scratch.file("curves.json");
  const auto plan = [&](const std::string& budget, const std::string& losses) {
    const auto recipe = press::parse_recipe("budget: {resident: " + budget +
                                                ", samples: 4, rounds: 1, losses: " + losses +
                                                "}\ncalibration: {samples: 16, length: 64}\n",
                                            "fit", {});
    REQUIRE_OK(recipe.status());
    return press::fit_budget(*checkpoint.source, model.value(), recipe.value(), options);
  };
  const auto large = plan("100MB", "estimated");
  REQUIRE_OK(large.status());
  CHECK(large.value().samples.size() == 32);
  const uint64_t most = large.value().plan.measured.resident;
  const auto small = plan(std::to_string(most * 2 / 3), "estimated");
  REQUIRE_OK(small.status());
  CHECK(small.value().plan.measured.resident <= most * 2 / 3);
  CHECK(small.value().plan.measured.kl > 0);
  // Curves of estimates are none of measurements.
  CHECK_THAT(plan("100MB", "measured").status().message(), Catch::Contains("measured for another"));
  const auto wrong = press::parse_recipe("budget: {resident: 1MB, losses: guessed}", "r", {});
  CHECK(wrong.status().code() == Code::Usage);
  CHECK_THAT(wrong.status().message(), Catch::Contains("auto, measured"));
}
