// A teacher's likeliest answers: the loss from them, and their files. Also matrices that are held
// in fewer bits.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/head_loss.h"
#include "compressor/train/teacher_answers.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using at::Tensor;
using Catch::Contains;
using press::Precision;

namespace {

constexpr int64_t kTokens = 33;
constexpr int64_t kVocab = 50;
constexpr double kScale = 0.25;

double relative(const Tensor& found, const Tensor& expected) {
  const Tensor wanted = expected.to(at::kDouble);
  return (found.to(at::kDouble) - wanted).norm().item<double>() / wanted.norm().item<double>();
}

std::string first_answers(const std::string& folder) {
  return (std::filesystem::path(folder) / "teacher" / "answers-000000.safetensors").string();
}

press::TrainJob distilled(const TinyModel& student, const TinyModel& teacher,
                          const std::string& text, const std::string& folder, uint64_t top_k) {
  press::TrainJob job = make_job(student, text, folder);
  job.options.loss.head.distill = 1.0;
  job.options.loss.head.precision = Precision::F32;
  job.options.teacher_top_k = top_k;
  job.teacher.emplace(teacher.ref());
  return job;
}

}  // namespace

TEST_CASE("The loss from a teacher's top answers is that of k tokens and all others",
          "[train][answers]") {
  at::Generator random = at::detail::createCPUGenerator(4);
  const auto normal = [&](int64_t n, int64_t m) { return at::randn({n, m}, random, at::kFloat); };
  const Tensor input = normal(kTokens, 8);
  const Tensor head = normal(kVocab, 8);
  const press::TeacherHead whole = {normal(kTokens, 6), normal(kVocab, 6)};
  const Tensor targets = at::randint(0, kVocab, {kTokens}, random, at::kLong);
  const double temperature = GENERATE(1.0, 2.0);
  const int64_t k = GENERATE(int64_t{1}, int64_t{7}, kVocab);
  CAPTURE(temperature, k);
  const press::TopAnswers top =
      press::top_answers(whole.input, whole.head, k, temperature, Precision::F32);
  const press::TeacherHead answers = {{}, {}, top};
  const press::HeadLossOptions options = {1.0, temperature, Precision::F32};
  const auto loss = press::head_loss(input, head, targets, &answers, options, kScale);
  const auto all = press::head_loss(input, head, targets, &whole, options, kScale);

  // In f64, differentiated by LibTorch.
  const Tensor x = input.to(at::kDouble).set_requires_grad(true);
  const Tensor h = head.to(at::kDouble).set_requires_grad(true);
  const Tensor log_q = at::log_softmax(at::mm(x, h.t()) / temperature, 1);
  const Tensor p = top.log_p.to(at::kDouble).exp();
  Tensor divergence = (p * (p.log() - log_q.gather(1, top.ids))).sum();
  if (k < kVocab) {
    const Tensor rest = 1 - p.sum(1);
    const Tensor others = log_q.exp().scatter(1, top.ids, 0.0).sum(1);
    divergence = divergence + (rest * (rest.log() - others.log())).sum();
  }
  divergence = divergence * temperature * temperature;
  torch::autograd::backward({divergence * kScale}, {});
  CHECK(loss.divergence == Approx(divergence.item<double>()).epsilon(1e-3));
  CHECK(relative(loss.grad_input, x.grad()) < 1e-3);
  CHECK(relative(loss.grad_head, h.grad()) < 1e-3);
  CHECK(loss.divergence <= all.divergence * 1.0001);
  if (k == kVocab) {
    CHECK(loss.divergence == Approx(all.divergence).epsilon(1e-4));
    CHECK(relative(loss.grad_input, all.grad_input) < 1e-4);
  }
  press::HeadLossOptions fixed = options;
  fixed.head_is_fixed = true;
  const auto without = press::head_loss(input, head, targets, &answers, fixed, kScale);
  CHECK_FALSE(without.grad_head.defined());
  CHECK(without.grad_input.equal(loss.grad_input));
}

TEST_CASE("Training from a file of answers is training from the teacher", "[train][answers]") {
  const ScratchFolder scratch;
  write_text(scratch.file("t.txt"), repetitive_text(4000));
  const TinyModel student = make_tiny("v5.2", 1);
  const TinyModel teacher = make_tiny("v5.2", 2);
  const auto asked =
      train_all(distilled(student, teacher, scratch.file("t.txt"), scratch.file("asked"), 0));
  const auto read =
      train_all(distilled(student, teacher, scratch.file("t.txt"), scratch.file("read"), 256));
  // The file's log-probabilities are f16.
  CHECK(read.last.divergence == Approx(asked.last.divergence).epsilon(0.02).margin(2e-3));
  const auto few =
      train_all(distilled(student, teacher, scratch.file("t.txt"), scratch.file("few"), 4));
  CHECK(few.last.divergence < asked.last.divergence + 2e-3);
}

TEST_CASE("A file of answers is taken again, and refused by name if it is damaged",
          "[train][answers][security]") {
  const ScratchFolder scratch;
  write_text(scratch.file("t.txt"), repetitive_text(4000));
  const TinyModel student = make_tiny("v5.2", 1);
  const TinyModel teacher = make_tiny("v5.2", 2);
  const std::string folder = scratch.file("w");
  const auto group = one_process();
  press::TrainJob job = distilled(student, teacher, scratch.file("t.txt"), folder, 8);
  const auto expected =
      train_all(distilled(student, teacher, scratch.file("t.txt"), scratch.file("whole"), 8));
  job.callbacks = stop_after(5);
  REQUIRE_OK(press::train(job, *group).status());
  const std::string path = first_answers(folder);
  const auto whole = read_bytes(path);
  const auto written = std::filesystem::last_write_time(path);
  job.callbacks = {};
  job.resume = true;
  auto resumed = press::train(job, *group);
  REQUIRE_OK(resumed.status());
  CHECK(same_parameters(resumed.value(), expected));
  CHECK(std::filesystem::last_write_time(path) == written);

  for (const size_t at : {size_t{9}, whole.size() / 2, whole.size() - 3}) {
    auto damaged = whole;
    damaged[at] ^= std::byte{0x40};
    write_bytes(path, damaged);
    const Status status = press::train(job, *group).status();
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains(path));
  }
  write_bytes(path, std::span(whole).first(whole.size() / 3));
  CHECK(press::train(job, *group).status().code() == Code::BadInput);
  write_bytes(path, whole);
  job.options.teacher_top_k = 9;
  const Status other = press::train(job, *group).status();
  CHECK(other.code() == Code::Usage);
  job.options.teacher_top_k = 8;
  REQUIRE_OK(press::train(job, *group).status());
}

TEST_CASE("Fixed matrices are held in half the memory without a change of a bit", "[train]") {
  const std::string arch = GENERATE("v5.2", "v7");
  const TinyModel tiny = make_tiny(arch);
  // As a published model: every value is bf16.
  TinyModel narrow;
  narrow.source = std::make_unique<press::MemorySource>("bf16");
  narrow.model = tiny.model;
  for (const TensorInfo& info : tiny.source->tensors()) {
    auto values = press::load_named(*tiny.source, info.name);
    REQUIRE_OK(values.status());
    const Tensor rounded = (values.value() + 0.01).to(at::kBFloat16).to(at::kFloat).contiguous();
    narrow.source->add(info.name, info.shape,
                       {rounded.data_ptr<float>(), rounded.data_ptr<float>() + rounded.numel()});
  }
  const auto is_trained = [](const std::string& name) { return name.ends_with("att.key.weight"); };
  std::vector<std::unique_ptr<press::Network>> networks;
  for (int i = 0; i < 2; ++i) {
    auto loaded = press::Network::load(*narrow.source, narrow.model.config, is_trained);
    REQUIRE_OK(loaded.status());
    networks.push_back(loaded.take());
  }
  networks[1]->hold_fixed();
  CHECK(networks[1]->head().scalar_type() == at::kBFloat16);
  CHECK(networks[1]->block(1).linears.at("ffn.key").dense.scalar_type() == at::kBFloat16);
  CHECK(networks[1]->block(1).linears.at("att.key").dense.scalar_type() == at::kFloat);
  at::Generator random = at::detail::createCPUGenerator(4);
  const press::Batch batch = {at::randint(0, 256, {2, 20}, random, at::kLong),
                              at::randint(0, 256, {40}, random, at::kLong)};
  for (const Precision precision : {Precision::F32, Precision::Bf16}) {
    press::LossOptions options;
    options.head.precision = precision;
    std::vector<Tensor> gradients;
    std::vector<double> losses;
    for (const auto& network : networks) {
      network->set_precision(precision);
      losses.push_back(press::add_gradients(*network, nullptr, batch, options, 1.0).cross_entropy);
      gradients.push_back(network->parameters()[0].values.grad().clone());
      for (const press::Parameter& parameter : network->parameters()) {
        parameter.values.mutable_grad().reset();
      }
    }
    CHECK(losses[0] == losses[1]);
    CHECK(gradients[0].equal(gradients[1]));
  }
}
