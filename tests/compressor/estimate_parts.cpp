// Parts of estimated losses: outputs that stand for all, choices measured on a part of the text,
// predictors and clusters against their packed files, and what a plan is expected to take.
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "compressor/calibrate/output_errors.h"
#include "compressor/calibrate/sensitivity.h"
#include "compressor/clusters/cluster_head.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/planner/estimate.h"
#include "compressor/planner/learnt_rounding.h"
#include "compressor/planner/measured_choices.h"
#include "compressor/planner/needs.h"
#include "compressor/planner/sampled_outputs.h"
#include "tests/compressor/planner_testing.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

at::Tensor noise(uint64_t seed, int64_t rows, int64_t columns) {
  return at::randn({rows, columns}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

press::Recipe recipe_of(const std::string& yaml) {
  auto recipe = press::parse_recipe(yaml, "test", {});
  REQUIRE_OK(recipe.status());
  return recipe.take();
}

}  // namespace

TEST_CASE("Sampled outputs tell what all outputs lose", "[planner][estimates]") {
  const int64_t n_outputs = 2048;
  const int64_t n_inputs = 256;
  // A few outputs matter far more than the others, as channels of real models do.
  at::Tensor gradients = noise(1, 512, n_outputs);
  gradients.select(1, 77).mul_(40);
  gradients.narrow(1, 1024, 64).mul_(6);
  const press::ProductSeen seen{noise(2, 512, n_inputs), gradients.to(at::kBFloat16)};
  at::Tensor w = noise(3, n_outputs, n_inputs);
  w.narrow(0, 300, 200).mul_(3);
  const auto [layout, unit] =
      GENERATE(std::pair(Layout::AsIs, int64_t{1}), std::pair(Layout::Transposed, int64_t{64}));
  const press::SampledOutputs sample = press::sample_outputs(seen, w, unit, 512);
  REQUIRE(sample.outputs.defined());
  const int64_t n = sample.outputs.numel();
  CHECK(std::abs(n - 512) <= unit);
  const int64_t* outputs = sample.outputs.data_ptr<int64_t>();
  CHECK(std::find(outputs, outputs + n, 77) != outputs + n);
  for (int64_t i = 0; i < n; i += unit) {
    CHECK(outputs[i] % unit == 0);
    CHECK(outputs[i + unit - 1] == outputs[i] + unit - 1);
  }
  for (const Codec codec : {Codec::Lut2, Codec::Lut3, Codec::Lut4}) {
    const double all = press::rounding_distance(seen, press::rounded(w, codec, layout) - w);
    const at::Tensor some = sample.of(w);
    const double estimated =
        press::rounding_distance(sample.seen, press::rounded(some, codec, layout) - some);
    CHECK(estimated == Approx(all).epsilon(0.1));
  }
  // The same again, and all where there are few.
  CHECK(at::equal(press::sample_outputs(seen, w, unit, 512).outputs, sample.outputs));
  CHECK_FALSE(press::sample_outputs(seen, w, unit, n_outputs).outputs.defined());
}

TEST_CASE("Sampled outputs of a product without gradients, or of infinite weights",
          "[planner][estimates]") {
  const press::ProductSeen seen{noise(1, 64, 32), at::zeros({64, 600}, at::kBFloat16)};
  at::Tensor w = noise(2, 600, 32);
  CHECK(press::sample_outputs(seen, w, 1, 300).outputs.numel() == 300);
  w[3][3] = INFINITY;
  CHECK_FALSE(press::sample_outputs(seen, w, 1, 300).outputs.defined());
}

TEST_CASE("A joint distance is that of a pair's product", "[planner][estimates]") {
  const press::ProductSeen seen{noise(1, 700, 24), noise(2, 700, 40).to(at::kBFloat16)};
  const at::Tensor w = noise(3, 40, 24);
  const press::Factors whole = press::factorise(w, {}, 5, 1);
  CHECK(press::joint_distance(seen, whole.product() - w) ==
        Approx(press::pair_distances(seen, w, whole, {5})[0]).epsilon(1e-4));
}

TEST_CASE("Distances without their tail do not see single positions", "[planner][estimates]") {
  const at::Tensor gradients = noise(2, 800, 40);
  const press::ProductSeen usual{noise(1, 800, 24), gradients};
  press::ProductSeen rare = usual;
  rare.gradients = gradients.clone();
  rare.gradients[17].mul_(1000);
  const at::Tensor change = noise(3, 40, 24);
  const press::Factors whole = press::factorise(change, {}, 16, 1);
  const auto all_of = [&](const press::ProductSeen& seen, press::Tail tail) {
    return std::vector<double>{
        press::rounding_distance(seen, change, tail), press::joint_distance(seen, change, tail),
        press::pair_distances(seen, change, whole, {3}, tail)[0],
        press::input_distance(seen.gradients, seen.inputs.narrow(1, 0, 1).expand({800, 40}), tail)};
  };
  const auto kept = all_of(usual, press::Tail::Kept);
  const auto cut = all_of(usual, press::Tail::Cut);
  const auto with_rare = all_of(rare, press::Tail::Cut);
  const auto with_all = all_of(rare, press::Tail::Kept);
  for (size_t i = 0; i < kept.size(); ++i) {
    CHECK(cut[i] <= kept[i]);
    CHECK(cut[i] > 0.8 * kept[i]);
    CHECK(with_rare[i] == Approx(cut[i]).epsilon(0.05));
    CHECK(with_all[i] > 10 * kept[i]);
  }
}

TEST_CASE("What clusters lose is the distance of the logits that the runtime gives",
          "[planner][estimates]") {
  const int64_t n = 40;
  const int64_t n_vocab = 60;
  const at::Tensor z = noise(1, n, 8);
  const at::Tensor rows = noise(2, n_vocab, 8);
  const press::HeadOrder order = press::order_by_cluster(
      at::arange(n_vocab, at::kLong).remainder(6), at::ones({n_vocab}, at::kFloat), 0);
  const press::ClusterHead head{noise(3, 6, 8), noise(4, 1, 6).flatten()};
  const std::vector<double> masses = {0.5, 0.9, 1.0};
  const auto losses = press::selection_losses(head, z, rows, order, masses, 1, 6);
  REQUIRE(losses.size() == 3);
  const std::vector<int64_t> cluster_of = order.cluster_of_tokens();
  for (size_t m = 0; m < masses.size(); ++m) {
    double kl = 0;
    for (int64_t i = 0; i < n; ++i) {
      const at::Tensor log_p = at::mv(rows, z[i]).log_softmax(0);
      const at::Tensor c = (at::mv(head.weight, z[i]) + head.bias).softmax(0);
      const auto sorted = std::get<1>(c.sort(0, /*descending=*/true));
      std::vector<bool> known(6);
      double reached = 0;
      for (int64_t k = 0; k < 6 && reached < masses[m]; ++k) {
        const auto cluster = sorted[k].item<int64_t>();
        known[static_cast<size_t>(cluster)] = true;
        reached += c[cluster].item<double>();
      }
      // ln Q, the log of the sum over known tokens; then every logit as in the runtime.
      double q = 0;
      double p_known = 0;
      for (int64_t t = 0; t < n_vocab; ++t) {
        q += known[static_cast<size_t>(cluster_of[t])] ? std::exp(log_p[t].item<double>()) : 0;
      }
      for (int64_t k = 0; k < 6; ++k) {
        p_known += known[static_cast<size_t>(k)] ? c[k].item<double>() : 0;
      }
      at::Tensor logits = log_p.clone();
      for (int64_t t = 0; t < n_vocab; ++t) {
        const int64_t k = cluster_of[static_cast<size_t>(t)];
        if (!known[static_cast<size_t>(k)]) {
          logits[t] = std::log(q) + std::log(c[k].item<double>()) - std::log(p_known) -
                      std::log(static_cast<double>(order.rows_in(k)));
        }
      }
      kl += (log_p.exp() * (log_p - logits.log_softmax(0))).sum().item<double>() / n;
    }
    CHECK(losses[m].kl == Approx(kl).epsilon(1e-3).margin(1e-6));
  }
  CHECK(losses[0].rows_share < losses[1].rows_share);
  CHECK(losses[2].rows_share == Approx(1));
}

TEST_CASE("Predictors and clusters are estimated as their packed files are measured",
          "[planner][estimates]") {
  const std::string arch = GENERATE("v5.2", "v7");
  CAPTURE(arch);
  SmallSubject small(arch);
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::F16});
  subject.has_pairs = false;
  press::CurveOptions options;
  options.sparse = true;
  const auto estimates = press::estimate_curves(subject, options);
  REQUIRE_OK(estimates.status());
  const auto measured = press::measure_curves(subject, *meter_of(subject), options);
  REQUIRE_OK(measured.status());
  const auto alike = [](const std::vector<press::RowsPoint>& left,
                        const std::vector<press::RowsPoint>& right, double loss) {
    REQUIRE(left.size() == right.size());
    for (size_t i = 0; i < left.size(); ++i) {
      INFO(left[i].value << ": " << left[i].loss << ", " << left[i].share << " estimated, "
                         << right[i].loss << ", " << right[i].share << " measured");
      CHECK(left[i].value == right[i].value);
      CHECK(std::abs(left[i].share - right[i].share) < 0.08);
      CHECK(left[i].clusters == right[i].clusters);
      CHECK(left[i].halves == right[i].halves);
      if (right[i].loss > 1e-6) {
        CHECK(std::abs(std::log(left[i].loss / right[i].loss)) < std::log(loss));
      }
    }
  };
  alike(estimates.value().ffn, measured.value().ffn, 3);
  alike(estimates.value().head, measured.value().head, 1.15);
}

TEST_CASE("Choices that are measured on a part of the text lose about what they lose on all",
          "[planner][estimates]") {
  SmallSubject small({.arch = "v7", .n_layer = 2, .n_embd = 128, .n_vocab = 256}, 24);
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::F16, Codec::Lut3, Codec::Lut2});
  const auto run = [&](int64_t samples) {
    press::MeasuredChoices measured(subject, samples);
    REQUIRE_OK(measured.begin(/*with_lora=*/true));
    const auto sensitivity = press::measure_sensitivity(subject.source, subject.model.config,
                                                        subject.held_out, 0, [](double) {});
    REQUIRE_OK(sensitivity.status());
    auto held = press::Walk::begin(subject.source, subject.model.config, subject.held_out);
    REQUIRE_OK(held.status());
    const press::BlockWalk walk{.source = subject.source,
                                .config = subject.model.config,
                                .calibration = &subject.calibration,
                                .products = [&](int64_t block) {
                                  std::vector<std::string> products;
                                  for (const press::PlannedMatrix& matrix : subject.matrices) {
                                    if (matrix.block == block) {
                                      products.push_back(matrix.product);
                                    }
                                  }
                                  return products;
                                }};
    const auto visit = [&](press::BlockVisit& here) -> Status {
      std::map<std::string, std::vector<at::Tensor>> inputs;
      held.value().advance(here.block, [&](const std::string& product, const at::Tensor& x) {
        inputs[product].push_back(x);
      });
      std::map<std::string, press::ProductSeen> seen;
      size_t first = subject.matrices.size();
      size_t end = 0;
      for (size_t i = 0; i < subject.matrices.size(); ++i) {
        if (subject.matrices[i].block == here.index) {
          const std::string& product = subject.matrices[i].product;
          seen[product] = {
              at::cat(inputs.at(product), 0),
              sensitivity.value().products[static_cast<size_t>(here.index)].at(product)};
          first = std::min(first, i);
          end = i + 1;
        }
      }
      return measured.pass(here, first, end, seen);
    };
    const at::NoGradGuard no_grad;
    REQUIRE_OK(walk.run(visit).status());
    const auto head = press::load_named(subject.source, "head.weight");
    REQUIRE_OK(head.status());
    REQUIRE_OK(measured.finish(head.value()));
    CHECK(measured.lora().size() == 2);
    return measured.drawn();
  };
  CHECK(press::measured_samples(subject) == 24);
  const auto all = run(24);
  const auto part = run(8);
  REQUIRE(all.size() == part.size());
  double mean = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    INFO(i << ": " << all[i].measured << " on all, " << part[i].measured << " on a part");
    CHECK(all[i].measured > 0);
    CHECK(std::abs(std::log(part[i].measured / all[i].measured)) < std::log(2.5));
    mean += std::log(part[i].measured / all[i].measured) / static_cast<double>(all.size());
  }
  CHECK(std::abs(mean) < std::log(1.25));
}

TEST_CASE("Estimates of a deep model: codes in some blocks, the same bits after interruptions",
          "[planner][estimates]") {
  SmallSubject small({.arch = "v5.2", .n_layer = 14, .n_embd = 64, .n_vocab = 256}, 4);
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::F16, Codec::Lut3});
  subject.has_pairs = false;
  const auto whole = press::estimate_curves(subject, {});
  REQUIRE_OK(whole.status());
  const std::string text = press::curves_text("key", whole.value());
  for (const press::PlannedMatrix& matrix : subject.matrices) {
    const auto& points =
        whole.value().matrices[static_cast<size_t>(&matrix - &subject.matrices[0])];
    CHECK(points.back().loss > 0);
  }
  // In a block in which codes of ffn.value are not learnt, and in one in which they are.
  for (const size_t blocks : {size_t{4}, size_t{6}}) {
    std::string kept;
    size_t n_saved = 0;
    press::CurveOptions options;
    options.save = [&](const press::Curves& curves) -> Status {
      kept = press::curves_text("key", curves);
      return ++n_saved < blocks ? Status() : failed("interrupted");
    };
    CHECK_FALSE(press::estimate_curves(subject, options).ok());
    auto begun = press::parse_curves(kept, "key");
    REQUIRE_OK(begun.status());
    const auto resumed = press::estimate_curves(subject, {}, begun.take());
    REQUIRE_OK(resumed.status());
    CHECK(press::curves_text("key", resumed.value()) == text);
  }
}

TEST_CASE("A plan says what it takes", "[planner][estimates]") {
  const SmallSubject small("v7");
  const Identified& model = small.subject->model;
  const auto stages_of = [&](const std::string& budget) {
    const auto estimate = press::estimate_plan(recipe_of("budget: " + budget), model, 1 << 20);
    REQUIRE_OK(estimate.status());
    std::string names;
    for (const press::StageEstimate& stage : estimate.value().stages) {
      names += stage.name + " ";
      CHECK(stage.needs.parallel.products + stage.needs.serial.products + stage.needs.serial.loops >
            0);
    }
    return names;
  };
  CHECK(stages_of("{resident: 1MB}") == "curves predictors search check ");
  CHECK(stages_of("{size: 1MB, check: none}") == "curves search ");
  CHECK(stages_of("{resident: 1MB, losses: estimated}") ==
        "gradients matrices predictors head search check ");
  CHECK(stages_of("{resident: 1MB, memory: loaded, losses: estimated, check: none}") ==
        "gradients matrices head search ");

  // By the number of parameters.
  Identified large = model;
  for (TensorBinding& binding : large.tensors) {
    binding.shape[0] *= binding.role == Role::Embedding ? 100'000 : 1;
  }
  const press::Budget budget;
  CHECK_FALSE(press::is_estimated(budget, model));
  CHECK(press::is_checked(budget, model));
  CHECK(press::is_estimated(budget, large));
  CHECK_FALSE(press::is_checked(budget, large));
  press::Budget asked;
  asked.losses = "measured";
  asked.check = "packed";
  CHECK_FALSE(press::is_estimated(asked, large));
  CHECK(press::is_checked(asked, large));
}
