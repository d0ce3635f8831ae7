// Training and calibration on another device than the CPU: the same as there but for rounding, on a
// device that is none (pretend_device.h), since a GPU is not everywhere.
#include <algorithm>

#include "compressor/calibrate/imatrix.h"
#include "compressor/calibrate/statistics.h"
#include "compressor/checkpoint/open.h"
#include "compressor/numerics/adam.h"
#include "compressor/numerics/device.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/compressor/press_testing.h"
#include "tests/compressor/pretend_device.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

// The largest difference of any parameter, relative to the largest number of its tensor.
double difference(const press::Trained& a, const press::Trained& b) {
  const auto& ours = a.network->parameters();
  const auto& theirs = b.network->parameters();
  REQUIRE(ours.size() == theirs.size());
  double largest = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const at::Tensor x = ours[i].values.detach().cpu();
    const at::Tensor y = theirs[i].values.detach().cpu();
    CAPTURE(ours[i].name);
    REQUIRE(at::isfinite(x).all().item<bool>());
    const double scale = std::max(1e-2, y.abs().max().item<double>());
    largest = std::max(largest, (x - y).abs().max().item<double>() / scale);
  }
  return largest;
}

}  // namespace

TEST_CASE("A training on another device is that on the CPU but for rounding", "[device]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  CAPTURE(arch);
  const ScratchFolder scratch;
  const std::string text = scratch.file("t.txt");
  write_text(text, repetitive_text(3000));
  const TinyModel tiny = make_tiny(arch);
  const TinyModel teacher = make_tiny(arch, 4);
  const auto job_in = [&](const std::string& folder, const at::Device& device) {
    press::TrainJob job = make_job(tiny, text, scratch.file(folder));
    job.options.steps = 4;
    job.options.valid = job.options.data;
    job.options.loss.head.distill = 0.5;
    job.options.loss.block_match = 0.1;
    job.options.loss.recompute = true;
    job.teacher.emplace(teacher.ref());
    job.device = device;
    return job;
  };
  const press::Trained here = train_all(job_in("here", at::kCPU));
  const press::Trained there = train_all(job_in("there", kPretendDevice));
  for (const press::Parameter& parameter : there.network->parameters()) {
    REQUIRE(parameter.values.device() == kPretendDevice);
  }
  CHECK(there.last.loss == Approx(here.last.loss).epsilon(1e-4));
  CHECK(there.last.valid == Approx(here.last.valid).epsilon(1e-4));
  // A step of Adam is as large as the rate wherever a gradient is hardly more than rounding.
  CHECK(difference(there, here) < 0.05);
}

TEST_CASE("A training goes on from a snapshot on either device, with answers from a file",
          "[device]") {
  const ScratchFolder scratch;
  const std::string text = scratch.file("t.txt");
  write_text(text, repetitive_text(3000));
  const TinyModel tiny = make_tiny("v7");
  const TinyModel teacher = make_tiny("v7", 4);
  press::TrainJob job = make_job(tiny, text, scratch.file("w"));
  job.options.loss.head.distill = 1.0;
  job.options.teacher_top_k = 8;
  job.teacher.emplace(teacher.ref());
  job.device = kPretendDevice;
  job.callbacks = stop_after(4);
  CHECK_FALSE(train_all(job).is_finished);
  job.resume = true;
  job.device = at::kCPU;
  job.callbacks = stop_after(8);
  CHECK_FALSE(train_all(job).is_finished);
  job.device = kPretendDevice;
  job.callbacks = {};
  const press::Trained resumed = train_all(job);
  CHECK(resumed.is_finished);

  press::TrainJob whole = make_job(tiny, text, scratch.file("whole"));
  whole.options = job.options;
  whole.teacher.emplace(teacher.ref());
  const press::Trained straight = train_all(whole);
  CHECK(resumed.last.loss == Approx(straight.last.loss).epsilon(1e-3));
}

TEST_CASE("A step of Adam is the same on another device", "[device]") {
  const auto mean =
      GENERATE(press::AdamOptions::Mean::Weighted, press::AdamOptions::Mean::Increment);
  const at::Tensor start = at::arange(12, at::kFloat).reshape({3, 4}) / 7.0;
  const at::Tensor here = start.clone();
  const at::Tensor there = start.to(kPretendDevice);
  press::AdamOptions options;
  options.mean = mean;
  press::Adam on_cpu(here, options);
  press::Adam elsewhere(there, options);
  for (uint64_t number = 1; number <= 3; ++number) {
    const at::Tensor gradient = (start - static_cast<double>(number)).contiguous();
    const press::Adam::Step step{
        .number = number, .rate = 0.1, .decay = 0.01, .gradient_scale = 0.5};
    on_cpu.step(gradient, step);
    elsewhere.step(gradient.to(kPretendDevice), step);
  }
  CHECK_FALSE(at::allclose(here, start));
  CHECK(at::allclose(there.cpu(), here, 1e-5, 1e-6));
  CHECK(at::allclose(elsewhere.mean().cpu(), on_cpu.mean(), 1e-5, 1e-6));
  CHECK(at::allclose(elsewhere.square().cpu(), on_cpu.square(), 1e-5, 1e-6));
}

TEST_CASE("The pretend device takes no operand from the CPU", "[device]") {
  const at::Tensor here = at::ones({2, 3});
  const at::Tensor there = here.to(kPretendDevice);
  CHECK((there + there).cpu().equal(here * 2));
  CHECK_THROWS_WITH(there + here, Contains("device"));
  CHECK_THROWS_WITH(at::cat({there, here}), Contains("pretend device"));
}

TEST_CASE("Devices have names", "[device]") {
  CHECK(press::compute_device("cpu").value() == at::Device(at::kCPU));
  for (const char* name : {"", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", "cpu:0"}) {
    CAPTURE(name);
    const Status status = press::compute_device(name).status();
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Contains("expected cpu, cuda or cuda:N"));
  }
  const auto far = press::compute_device("cuda:999");
  CHECK(far.status().code() == Code::Usage);
  CHECK_THAT(far.status().message(), Contains("--device cuda:999"));
}

TEST_CASE("Statistics that another device collects are those of the CPU but for rounding",
          "[device]") {
  const std::string arch = GENERATE("v5.2", "v6", "v7");
  CAPTURE(arch);
  const ScratchFolder scratch;
  const auto checkpoint = press::open_checkpoint(write_synth(scratch, arch)).take();
  const TensorSource& source = *checkpoint.source;
  const ModelConfig config = press::identify_checkpoint(source).take().config;
  press::CalibrationOptions options;
  options.texts = {write_text(scratch, 4000)};
  options.samples = 8;
  options.length = 32;
  const auto calibration = press::sample_texts(options, Vocabulary{}, config).take();
  const auto written = [&](const std::string& name, const at::Device& device) {
    const std::string path = scratch.file(name);
    REQUIRE_OK(press::write_statistics(
        source, config, calibration, path, OutputFile::Existing::Refuse, [](double) {},
        press::MomentsOf::All, device));
    return press::Statistics::open(path, config, source.path()).take();
  };
  const auto here = written("here.safetensors", at::kCPU);
  const auto there = written("there.safetensors", kPretendDevice);
  const auto n_embd = static_cast<int64_t>(config.n_embd);
  for (const char* product : {"att.key", "att.output", "ffn.key"}) {
    CAPTURE(product);
    const at::Tensor x = here->moments(1, product, n_embd).value();
    CHECK(there->moments(1, product, n_embd).value().allclose(x, 1e-3, 1e-5));
    CHECK(x.abs().max().item<double>() > 1e-3);
  }
  CHECK(
      there->head_moments(n_embd).value().allclose(here->head_moments(n_embd).value(), 1e-3, 1e-5));
  if (arch != "v5.2") {
    REQUIRE_OK(press::write_imatrix_of(
        source, config, calibration, "t", scratch.file("m.gguf"), OutputFile::Existing::Refuse,
        [](double) {}, kPretendDevice));
    const auto squares = press::Statistics::open(scratch.file("m.gguf"), config, source.path());
    REQUIRE_OK(squares.status());
    const at::Tensor diagonal = here->moments(1, "att.key", n_embd).value().diagonal();
    CHECK(squares.value()->squares(1, "att.key").to(at::kFloat).allclose(diagonal, 1e-3, 1e-5));
  }
}
