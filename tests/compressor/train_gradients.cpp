// What training differentiates: the head's loss against LibTorch's autograd, whole networks against
// differences of an independent loss in f64, recomputed blocks, bf16.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/gradients.h"
#include "compressor/train/head_loss.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using press::Network, press::Parameter, press::Precision;

namespace {

constexpr int64_t kSequences = 2;
constexpr int64_t kLength = 21;  // no multiple of what recurrences take together

double relative(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor wanted = expected.to(at::kDouble);
  return (found.to(at::kDouble) - wanted).norm().item<double>() / wanted.norm().item<double>();
}

// Every value changed a little: initial models have matrices of zeros, which stop all gradients.
std::unique_ptr<Network> load_perturbed(const TinyModel& tiny, uint64_t seed) {
  auto loaded = Network::load(*tiny.source, tiny.model.config, [](const auto&) { return true; });
  REQUIRE_OK(loaded.status());
  const at::NoGradGuard no_grad;
  at::Generator random = at::detail::createCPUGenerator(seed);
  for (const Parameter& parameter : loaded.value()->parameters()) {
    const double size = parameter.values.dim() > 1 ? 0.12 : 0.05;
    at::Tensor values = parameter.values.detach();
    values.add_(at::randn(values.sizes(), random, at::kFloat), size);
    if (parameter.name.ends_with("att.time_decay") && tiny.model.config.version != Version::V4) {
      values.add_(3.0);  // a state that is kept almost whole depends on it too little to measure
    }
  }
  return loaded.take();
}

press::Batch random_batch(uint64_t seed) {
  at::Generator random = at::detail::createCPUGenerator(seed);
  return {at::randint(0, 256, {kSequences, kLength}, random, at::kLong),
          at::randint(0, 256, {kSequences * kLength}, random, at::kLong)};
}

at::Tensor log_softmax64(const at::Tensor& logits, double temperature) {
  return at::log_softmax(logits.to(at::kDouble) / temperature, 1);
}

struct NetworkOutputs {
  std::vector<at::Tensor> blocks;
  at::Tensor logits;
};

NetworkOutputs run(const Network& network, const press::Batch& batch) {
  const at::NoGradGuard no_grad;
  NetworkOutputs outputs;
  at::Tensor v_first;
  at::Tensor x = network.embed(batch.inputs);
  for (int64_t i = 0; i < network.n_layer(); ++i) {
    x = network.block(i).forward(x, v_first, {});
    outputs.blocks.push_back(x.to(at::kDouble));
  }
  outputs.logits = at::linear(network.head_input(x), network.head());
  return outputs;
}

// The loss as the headers document it, in f64 from the network's f32 outputs on.
double documented_loss(const Network& student, const NetworkOutputs& theirs,
                       const press::Batch& batch, const press::LossOptions& options) {
  const NetworkOutputs ours = run(student, batch);
  const double t = options.head.temperature;
  const double d = options.head.distill;
  const auto n = static_cast<double>(batch.targets.size(0));
  const at::Tensor log_p = log_softmax64(ours.logits, 1.0);
  const double entropy = -log_p.gather(1, batch.targets.unsqueeze(1)).sum().item<double>();
  const at::Tensor log_q = log_softmax64(theirs.logits, t);
  const double divergence =
      t * t * (log_q.exp() * (log_q - log_softmax64(ours.logits, t))).sum().item<double>();
  double match = 0;
  for (size_t i = 0; i < ours.blocks.size(); ++i) {
    const at::Tensor distance = (ours.blocks[i] - theirs.blocks[i]).square().sum();
    match += (distance / theirs.blocks[i].square().sum()).item<double>();
  }
  match *= n / static_cast<double>(ours.blocks.size());
  return (1 - d) * entropy + d * divergence + options.block_match * match;
}

press::LossOptions all_parts() {
  press::LossOptions options;
  options.head.distill = 0.4;
  options.head.temperature = 2.0;
  options.block_match = 0.7;
  return options;
}

std::map<std::string, at::Tensor> take_gradients(const Network& network) {
  std::map<std::string, at::Tensor> gradients;
  for (const Parameter& parameter : network.parameters()) {
    CAPTURE(parameter.name);
    REQUIRE(parameter.values.grad().defined());
    gradients[parameter.name] = parameter.values.grad().clone();
    parameter.values.mutable_grad().reset();
  }
  return gradients;
}

void check_same(const Network& network, const std::map<std::string, at::Tensor>& expected,
                double tolerance) {
  for (const auto& [name, gradient] : take_gradients(network)) {
    CAPTURE(name);
    CHECK(relative(gradient, expected.at(name)) < tolerance);
  }
}

}  // namespace

TEST_CASE("The head's loss and gradients are those of LibTorch's autograd", "[train]") {
  struct Mix {
    double distill, temperature;
    int64_t n_vocab, n;
  };
  // The last two in several slices, of which the last is not full.
  const Mix mix = GENERATE(Mix{0, 1, 300, 50}, Mix{1, 3, 300, 50}, Mix{0.3, 2, 300, 50},
                           Mix{0.5, 1, 300, 50}, Mix{0, 1, 65536, 150}, Mix{0.3, 2, 65536, 150});
  constexpr double kScale = 0.25;
  at::Generator random = at::detail::createCPUGenerator(3);
  const auto normal = [&](int64_t rows, int64_t columns) {
    return at::randn({rows, columns}, random, at::kFloat);
  };
  const at::Tensor input = normal(mix.n, 8);
  const at::Tensor head = normal(mix.n_vocab, 8);
  const press::TeacherHead teacher = {normal(mix.n, 6), normal(mix.n_vocab, 6)};
  const at::Tensor targets = at::randint(0, mix.n_vocab, {mix.n}, random, at::kLong);

  const at::Tensor x = input.to(at::kDouble).set_requires_grad(true);
  const at::Tensor h = head.to(at::kDouble).set_requires_grad(true);
  const at::Tensor logits = at::mm(x, h.t());
  const at::Tensor entropy = -at::log_softmax(logits, 1).gather(1, targets.unsqueeze(1)).sum();
  const at::Tensor log_q = log_softmax64(
      at::mm(teacher.input.to(at::kDouble), teacher.head.to(at::kDouble).t()), mix.temperature);
  const at::Tensor divergence =
      (log_q.exp() * (log_q - at::log_softmax(logits / mix.temperature, 1))).sum() *
      (mix.temperature * mix.temperature);
  torch::autograd::backward({((1 - mix.distill) * entropy + mix.distill * divergence) * kScale},
                            {});

  const press::HeadLossOptions options = {mix.distill, mix.temperature, Precision::F32};
  const auto loss = press::head_loss(input, head, targets, &teacher, options, kScale);
  CHECK(loss.cross_entropy == Approx(entropy.item<double>()).epsilon(1e-4));
  CHECK(loss.divergence == Approx(mix.distill > 0 ? divergence.item<double>() : 0.0).epsilon(1e-4));
  CHECK(relative(loss.grad_input, x.grad()) < 1e-4);
  CHECK(relative(loss.grad_head, h.grad()) < 1e-4);
  if (mix.distill == 0) {
    const auto alone = press::head_loss(input, head, targets, nullptr, options, kScale);
    CHECK(alone.cross_entropy == loss.cross_entropy);
    CHECK(alone.grad_head.equal(loss.grad_head));
  }
  // A token of weight 0 is as if it were not there, one of weight 2 as if it were there twice.
  const int64_t half = mix.n / 2;
  const at::Tensor weights = at::cat({at::zeros({mix.n - half}), at::full({half}, 2.0F)});
  const auto weighed = press::head_loss(input, head, targets, &teacher, options, kScale, weights);
  const auto last = [&](const at::Tensor& all) { return all.narrow(0, mix.n - half, half); };
  const press::TeacherHead their_last = {last(teacher.input), teacher.head};
  const auto twice =
      press::head_loss(last(input), head, last(targets), &their_last, options, 2 * kScale);
  CHECK(weighed.cross_entropy == loss.cross_entropy);
  CHECK(weighed.grad_input.narrow(0, 0, mix.n - half).abs().max().item<float>() == 0.0F);
  CHECK(relative(last(weighed.grad_input), twice.grad_input.to(at::kDouble)) < 1e-5);
  CHECK(relative(weighed.grad_head, twice.grad_head.to(at::kDouble)) < 1e-5);
  const auto value = press::head_loss(input, head, targets, &teacher, options, 0.0);
  CHECK(value.cross_entropy == loss.cross_entropy);
  CHECK_FALSE(value.grad_input.defined());
  CHECK_FALSE(value.grad_head.defined());
}

// Along the gradient g the loss must change by 2 e |g|^2, which an error in g of any direction and
// more than a few percent would spoil; along a random half of g's numbers likewise.
TEST_CASE("Gradients of every parameter are the slopes of the loss", "[train]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  const auto student = load_perturbed(make_tiny(arch), 11);
  const auto teacher = load_perturbed(make_tiny(arch), 12);
  const press::Batch batch = random_batch(5);
  const press::LossOptions options = all_parts();
  const NetworkOutputs theirs = run(*teacher, batch);
  const auto sums = press::add_gradients(*student, teacher.get(), batch, options, 1.0);
  CHECK(sums.total(options) ==
        Approx(documented_loss(*student, theirs, batch, options)).epsilon(1e-5));
  CHECK(press::evaluate_loss(*student, batch, Precision::F32).cross_entropy ==
        Approx(sums.cross_entropy).epsilon(1e-6));
  const auto gradients = take_gradients(*student);
  const at::NoGradGuard no_grad;
  at::Generator random = at::detail::createCPUGenerator(6);
  double worst = 0;
  for (const Parameter& parameter : student->parameters()) {
    const at::Tensor& gradient = gradients.at(parameter.name);
    const at::Tensor half = at::rand(gradient.sizes(), random, at::kFloat).round();
    for (const bool is_whole : {true, false}) {
      if (!is_whole && gradient.numel() < 8) {
        continue;
      }
      const at::Tensor direction = is_whole ? gradient : gradient * half;
      const double slope = (gradient * direction).sum(at::kDouble).item<double>();
      CAPTURE(arch, parameter.name, is_whole, slope);
      REQUIRE(slope > 0);
      // A change of 0.004, far above f32's noise; at most 0.02 per number. The group norm of the
      // first token is sharply curved.
      const double most = 0.02 * std::sqrt(static_cast<double>(gradient.numel()) / slope);
      const double step = std::min(0.004 / slope, most);
      at::Tensor values = parameter.values.detach();
      const at::Tensor before = values.clone();
      const auto loss_at = [&](double e) {
        values.copy_(before + direction * e);
        return documented_loss(*student, theirs, batch, options);
      };
      const double difference = loss_at(step) - loss_at(-step);
      values.copy_(before);
      const double expected = 2 * step * slope;
      const double error = std::fabs(difference - expected);
      worst = std::max(worst, error / expected);
      CHECK(expected > 1e-3);
      CHECK(error < 0.01 * expected + 2e-5);
    }
  }
  fmt::print("{:<5} slopes within {:.4f}\n", arch, worst);
}

TEST_CASE("Blocks computed again give the same gradients", "[train]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  const auto student = load_perturbed(make_tiny(arch), 11);
  const auto teacher = load_perturbed(make_tiny(arch), 12);
  const press::Batch batch = random_batch(5);
  CAPTURE(arch);
  for (const bool has_teacher : {false, true}) {
    press::LossOptions options = has_teacher ? all_parts() : press::LossOptions();
    const Network* asked = has_teacher ? teacher.get() : nullptr;
    const auto plain = press::add_gradients(*student, asked, batch, options, 0.5);
    const auto expected = take_gradients(*student);
    options.recompute = true;
    const auto sums = press::add_gradients(*student, asked, batch, options, 0.5);
    CHECK(sums.total(options) == Approx(plain.total(options)).epsilon(1e-6));
    check_same(*student, expected, 1e-5);
  }
}

TEST_CASE("Gradients add up over passes, and what does not move gets none", "[train]") {
  const TinyModel tiny = make_tiny("v7");
  const auto student = load_perturbed(tiny, 11);
  const press::Batch batch = random_batch(5);
  press::add_gradients(*student, nullptr, batch, {}, 1.0);
  const auto expected = take_gradients(*student);
  for (int64_t i = 0; i < kSequences; ++i) {
    press::add_gradients(
        *student, nullptr,
        {batch.inputs.narrow(0, i, 1), batch.targets.narrow(0, i * kLength, kLength)}, {}, 1.0);
  }
  check_same(*student, expected, 1e-4);

  // Only the second block's key: the ends stay, and the first block needs no way back.
  const std::string name = "blocks.1.att.key.weight";
  auto partial = Network::load(*tiny.source, tiny.model.config,
                               [&](const std::string& each) { return each == name; });
  REQUIRE_OK(partial.status());
  REQUIRE(partial.value()->parameters().size() == 1);
  for (const bool recompute : {false, true}) {
    {
      const at::NoGradGuard no_grad;
      for (const Parameter& parameter : student->parameters()) {
        if (parameter.name == name) {
          partial.value()->parameters()[0].values.detach().copy_(parameter.values);
        }
      }
    }
    press::LossOptions options;
    options.recompute = recompute;
    press::add_gradients(*partial.value(), nullptr, batch, options, 1.0);
    const auto gradients = take_gradients(*partial.value());
    REQUIRE(gradients.size() == 1);
    CHECK_FALSE(partial.value()->head().grad().defined());
  }
}

TEST_CASE("What follows the token of answers has their weight", "[train]") {
  const TinyModel tiny = make_tiny("v5.2");
  const auto student = load_perturbed(tiny, 11);
  press::Batch batch = random_batch(5);
  batch.inputs.masked_fill_(batch.inputs.eq(7), 8);
  batch.inputs[1][3] = 7;
  press::LossOptions options;
  options.answers_after = 7;
  options.answers_weight = 0;
  const auto head_gradient = [&] {
    press::add_gradients(*student, nullptr, batch, options, 1.0);
    return take_gradients(*student).at("head.weight");
  };
  const at::Tensor expected = head_gradient();
  const auto with_target = [&](int64_t at) {
    const int64_t before = batch.targets[at].item<int64_t>();
    batch.targets[at] = (before + 1) % 256;
    const at::Tensor changed = head_gradient();
    batch.targets[at] = before;
    return changed;
  };
  CHECK(with_target(kLength + 3).equal(expected));
  CHECK_FALSE(with_target(kLength + 2).equal(expected));
  CHECK_FALSE(with_target(kLength + 4).equal(expected));
}

TEST_CASE("Products in bf16 are within 2 % of f32, with their gradients", "[train]") {
  at::Generator random = at::detail::createCPUGenerator(9);
  const at::Tensor x0 = at::randn({40, 64}, random, at::kFloat);
  const at::Tensor weight0 = at::randn({96, 64}, random, at::kFloat);
  const at::Tensor slope = at::randn({40, 96}, random, at::kFloat);
  const auto all = [&](Precision precision) {
    const at::Tensor x = x0.clone().set_requires_grad(true);
    const at::Tensor weight = weight0.clone().set_requires_grad(true);
    const at::Tensor y = press::product(x, weight, precision);
    torch::autograd::backward({y}, {slope});
    CHECK(y.dtype() == at::kFloat);
    return std::vector<at::Tensor>{y.detach(), x.grad(), weight.grad()};
  };
  const auto exact = all(Precision::F32);
  const auto rounded = all(Precision::Bf16);
  for (size_t i = 0; i < exact.size(); ++i) {
    CAPTURE(i);
    CHECK(rounded[i].dtype() == at::kFloat);
    CHECK(relative(rounded[i], exact[i]) < 0.02);
    CHECK(relative(rounded[i], exact[i]) > 1e-5);  // else it was not bf16
  }

  // The whole network: blocks and head.
  const auto student = load_perturbed(make_tiny("v5.2"), 11);
  const press::Batch batch = random_batch(5);
  press::LossOptions options;
  const auto f32 = press::add_gradients(*student, nullptr, batch, options, 1.0);
  const auto expected = take_gradients(*student);
  options.head.precision = Precision::Bf16;
  student->set_precision(Precision::Bf16);
  const auto bf16 = press::add_gradients(*student, nullptr, batch, options, 1.0);
  CHECK(bf16.cross_entropy == Approx(f32.cross_entropy).epsilon(0.02));
  CHECK(bf16.cross_entropy != f32.cross_entropy);
  check_same(*student, expected, 0.1);
}
