// Whole trainings inside the test: that they learn, that they go on bit for bit, what they refuse
// and how they end when numbers or disks fail.
#include <ATen/core/Tensor.h>

#include <cmath>
#include <filesystem>

#include "compressor/train/config.h"
#include "compressor/train/initial_values.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;
using press::StepReport, press::Trained, press::TrainJob;
namespace fs = std::filesystem;

namespace {

std::string write_repetitive(const ScratchFolder& scratch) {
  const std::string path = scratch.file("text.txt");
  write_text(path, repetitive_text(3000));
  return path;
}

Status refusal(const TrainJob& job) {
  const auto group = one_process();
  const auto trained = press::train(job, *group);
  REQUIRE_FALSE(trained.ok());
  INFO(trained.status().message());
  CHECK(trained.status().message().find('\n') == std::string::npos);
  return trained.status();
}

std::vector<std::string> states_in(const std::string& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-")) {
      found.push_back(name);
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

TEST_CASE("Every version learns a repetitive text", "[train]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  const ScratchFolder scratch;
  const TinyModel tiny = make_tiny(arch);
  TrainJob job = make_job(tiny, write_repetitive(scratch), scratch.file("work"));
  job.options.steps = 30;
  job.options.valid = job.options.data;
  std::vector<StepReport> reports;
  job.callbacks = stop_after(1000, &reports);
  const Trained trained = train_all(job);
  REQUIRE(reports.size() == 30);
  const double start = reports.front().row.loss;
  const double end = reports.back().row.loss;
  fmt::print("{:<5} loss {:.3f} -> {:.3f}, valid {:.3f}\n", arch, start, end, trained.last.valid);
  CHECK(start == Approx(std::log(256.0)).epsilon(0.1));
  CHECK(end < 1.5);
  CHECK(trained.last.valid < 1.5);
  CHECK(trained.last.valid > 0);
  CHECK(trained.is_finished);
  CHECK(trained.step == 30);
  CHECK(reports.back().row.tokens == 30 * 4 * 24);
  CHECK(reports.back().row.loss == reports.back().row.cross_entropy);
  CHECK(states_in(job.folder) == std::vector<std::string>{"step-00000030.safetensors"});
}

TEST_CASE("A stopped and resumed training ends in the same bits", "[train]") {
  const ScratchFolder scratch;
  const std::string text = write_repetitive(scratch);
  const TinyModel tiny = make_tiny("v7");
  const TinyModel teacher = make_tiny("v5.2", 4);
  const auto job_in = [&](const std::string& folder) {
    TrainJob job = make_job(tiny, text, scratch.file(folder));
    job.options.micro_batch = 2;
    job.options.save_every = 3;
    job.options.loss.head.distill = 0.25;
    job.options.loss.block_match = 0.1;
    job.options.loss.recompute = true;
    job.teacher.emplace(teacher.ref());
    return job;
  };
  const TrainJob straight = job_in("straight");
  const Trained whole = train_all(straight);
  CHECK(states_in(straight.folder) ==
        std::vector<std::string>{"step-00000009.safetensors", "step-00000012.safetensors"});

  TrainJob job = job_in("stopped");
  std::vector<StepReport> reports;
  job.callbacks = stop_after(5, &reports);
  std::vector<uint64_t> saved;
  job.callbacks.on_saved = [&](const std::string& path, uint64_t step) {
    CHECK(fs::exists(path));
    saved.push_back(step);
  };
  const Trained first = train_all(job);
  CHECK_FALSE(first.is_finished);
  CHECK(first.step == 5);
  CHECK(saved == std::vector<uint64_t>{3, 5});
  CHECK_FALSE(same_parameters(first, whole));
  job.resume = true;
  job.callbacks = stop_after(1000, &reports);
  const Trained second = train_all(job);
  CHECK(second.is_finished);
  CHECK(same_parameters(second, whole));
  CHECK(second.last.loss == whole.last.loss);
  CHECK(second.last.divergence > 0);
  CHECK(second.last.block_match > 0);
  REQUIRE(reports.size() == 12);
  CHECK(reports[5].row.step == 6);
  // The log has every step once.
  const auto csv = read_bytes(scratch.file("stopped/loss.csv"));
  CHECK(std::count(csv.begin(), csv.end(), std::byte{'\n'}) == 13);
  CHECK(fs::file_size(scratch.file("stopped/loss.svg")) > 0);

  // A seed of its own is another training.
  TrainJob other = job_in("other");
  other.seed = 8;
  CHECK_FALSE(same_parameters(train_all(other), whole));
}

TEST_CASE("Checkpoints are neither overwritten nor taken for another training's", "[train]") {
  const ScratchFolder scratch;
  const TinyModel tiny = make_tiny("v5.2");
  TrainJob job = make_job(tiny, write_repetitive(scratch), scratch.file("work"));
  job.callbacks = stop_after(2);
  train_all(job);
  const Status existing = refusal(job);
  CHECK(existing.code() == Code::Usage);
  CHECK_THAT(existing.message(), Contains("--resume") && Contains(job.folder));

  job.resume = true;
  const auto refused = [](const TrainJob& changed, const std::string& says) {
    const Status status = refusal(changed);
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Contains(says));
  };
  const auto refused_with = [&](const auto& change, const std::string& says) {
    TrainJob changed = job;
    change(changed);
    refused(changed, says);
  };
  refused_with([](TrainJob& j) { j.options.learning_rate = 4e-3; }, "lr: 0.004");
  refused_with([](TrainJob& j) { j.options.steps = 13; }, "steps: 13");
  refused_with([](TrainJob& j) { j.seed = 8; }, "seed: 8");
  refused_with([](TrainJob& j) { j.options.parameters = {"blocks.*"}; }, "tensors that move");
  const TinyModel other = make_tiny("v6");
  TrainJob of_other = make_job(other, job.options.data[0], job.folder);
  of_other.resume = true;
  refused(of_other, "v6");

  // A damaged one is named, as there is no other.
  const std::string state = job.folder + "/" + states_in(job.folder).back();
  const auto bytes = read_bytes(state);
  write_bytes(state, std::span(bytes).first(bytes.size() / 2));
  const Status damaged = refusal(job);
  CHECK(damaged.code() == Code::BadInput);
  CHECK_THAT(damaged.message(), Contains(state));
  write_bytes(state, bytes);
  CHECK(train_all(job).step == 3);  // stops after 2, hence after the first step that is done
}

TEST_CASE("Invalid jobs are refused before the first step", "[train]") {
  const ScratchFolder scratch;
  const TinyModel tiny = make_tiny("v5.2");
  const TinyModel foreign = make_tiny("v5.2", 1, 300);
  const TrainJob job = make_job(tiny, write_repetitive(scratch), scratch.file("work"));
  const auto refused = [&](const auto& change, const std::vector<std::string>& says) {
    TrainJob changed = job;
    change(changed);
    const Status status = refusal(changed);
    CHECK(status.code() == Code::Usage);
    for (const std::string& each : says) {
      CHECK_THAT(status.message(), Contains(each));
    }
    CHECK((!fs::exists(job.folder) || states_in(job.folder).empty()));
  };
  refused([](TrainJob& j) { j.options.loss.head.distill = 0.5; }, {"distill", "--teacher"});
  refused([](TrainJob& j) { j.options.loss.block_match = 0.5; }, {"block_match", "teacher"});
  refused(
      [&](TrainJob& j) {
        j.options.loss.head.distill = 0.5;
        j.teacher.emplace(foreign.ref());
      },
      {"256", "300"});
  refused([](TrainJob& j) { j.options.parameters = {"factors"}; }, {"no factor pairs"});
  refused(
      [](TrainJob& j) {
        j.options.parameters = {"all", "blocks.*.att.kye.weight"};
      },
      {"'blocks.*.att.kye.weight'"});
  refused([](TrainJob& j) { j.options.parameters.clear(); }, {"train.parameters"});
  refused([](TrainJob& j) { j.options.length = 3000; }, {"3000", "3001", "text.txt"});
  refused([](TrainJob& j) { j.options.data.clear(); }, {"--data"});
  refused([](TrainJob& j) { j.options.answers_after = "ab"; }, {"answers_after", "'ab' is 2"});
  refused([](TrainJob& j) { j.options.start_after = "ab"; }, {"start_after", "'ab' is 2"});
  refused(
      [](TrainJob& j) {
        j.options.answers_after = "?!";
        j.vocabulary.reset();
      },
      {"answers_after", "--vocab"});
}

TEST_CASE("Configurations are read whole or refused with the key", "[train]") {
  const std::string model = "model: {version: v7, n_layer: 2, n_embd: 64, n_vocab: 256}\n";
  const auto parse = [](const std::string& text, const std::vector<std::string>& set = {}) {
    return press::parse_train_config(text, "c.yaml", set);
  };
  auto config = parse("name: small\nseed: 9\n" + model + "train: {steps: 5, lr: 0.5, batch: 2}\n",
                      {"train.steps=6", "train.parameters=[factors, emb.*]"});
  REQUIRE_OK(config.status());
  CHECK(config.value().name == "small");
  CHECK(config.value().seed == 9);
  REQUIRE(config.value().model);
  CHECK(config.value().model->arch == "v7");
  CHECK(config.value().model->n_embd == 64);
  CHECK(config.value().train.steps == 6);
  CHECK(config.value().train.learning_rate == 0.5);
  CHECK(config.value().train.micro_batch == 2);
  CHECK(config.value().train.parameters == std::vector<std::string>{"factors", "emb.*"});
  REQUIRE_OK(parse("").status());
  CHECK_FALSE(parse("").value().model);

  const auto refused = [&](const std::string& text, const std::string& says,
                           const std::vector<std::string>& set = {}) {
    CAPTURE(text);
    const Status status = parse(text, set).status();
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Contains("c.yaml") && Contains(says));
  };
  refused("trian: {steps: 3}\n", "'trian' (line 1); did you mean 'train'");
  refused("train: {stepz: 3}\n", "'train.stepz'");
  refused("model: {version: v7, layers: 3}\n", "'model.layers'");
  refused("model: {n_layer: 2}\n", "model.version");
  refused("train: {steps: many}\n", "train.steps");
  refused("train: {steps: 0}\n", "train.steps");
  refused("train: {lr: -1}\n", "train.lr");
  refused("train: {batch: 4, micro_batch: 3}\n", "micro_batch");
  refused("train: {precision: fp8}\n", "fp8");
  refused("train: [1]\n", "train");
  refused("- 1\n", "map");
  refused("a: [\n", "not valid YAML");
  refused("", "train.key=value", {"steps=3"});
  refused("", "'train.stepz'", {"train.stepz=3"});
  const auto no_model = [](const std::string& arch, uint64_t n_embd, const std::string& says) {
    const Status status =
        press::initial_model({arch, 2, n_embd, 256, 0, 0, 0}, {.seed = 1}).status();
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Contains(says));
  };
  no_model("v8", 64, "'v8'");
  no_model("v7", 100, "100");
  no_model("v7", 0, "not a valid model");
}

TEST_CASE("Only what the patterns name moves", "[train]") {
  const ScratchFolder scratch;
  const TinyModel tiny = make_tiny("x058");
  TrainJob job = make_job(tiny, write_repetitive(scratch), scratch.file("work"));
  job.options.steps = 2;
  job.options.parameters = {"factors", "blocks.1.ln1.*"};
  const Trained trained = train_all(job);
  size_t n_factors = 0;
  for (const TensorBinding& tensor : tiny.model.tensors) {
    n_factors += tensor.part != Part::Dense ? 1 : 0;
  }
  REQUIRE(n_factors > 0);
  CHECK(trained.network->parameters().size() == n_factors + 2);
  auto before = press::Network::load(*tiny.source, tiny.model.config, nullptr);
  REQUIRE_OK(before.status());
  CHECK(before.value()->head().equal(trained.network->head()));
}

TEST_CASE("Numbers that stop being finite end a training, and the checkpoint stays", "[train]") {
  const ScratchFolder scratch;
  const TinyModel tiny = make_tiny("v5.2");
  TrainJob job = make_job(tiny, write_repetitive(scratch), scratch.file("work"));
  // Rates as usual up to step 6; step 7's throws everything far out, step 8 meets it.
  job.options.adamw.weight_decay = 0;
  job.options.warmup = 6;
  job.options.final_rate = 1e30;
  job.options.save_every = 4;
  const Status status = refusal(job);
  CHECK(status.code() == Code::Failed);
  INFO(status.message());
  CHECK_THAT(status.message(), Contains("step 8") && Contains("step-00000004.safetensors") &&
                                   (Contains("block 0") || Contains("embedding")));
  CHECK(states_in(job.folder) == std::vector<std::string>{"step-00000004.safetensors"});
  std::vector<StepReport> reports;
  job.resume = true;
  job.callbacks = stop_after(5, &reports);
  CHECK(train_all(job).step == 5);
  REQUIRE(reports.size() == 1);
  CHECK(std::isfinite(reports[0].row.loss));

  const std::string name = "blocks.1.ffn.key.weight";
  const TinyModel planted = with_number(tiny, name, std::nanf(""));
  TrainJob from_nan = make_job(planted, job.options.data[0], scratch.file("nan"));
  const Status at_once = refusal(from_nan);
  CHECK(at_once.code() == Code::Failed);
  CHECK_THAT(at_once.message(),
             Contains("step 1") && Contains("parameter " + name) && Contains("no snapshot"));
  CHECK(states_in(from_nan.folder).empty());
}

TEST_CASE("A learning rate far too high ends a training", "[train]") {
  const ScratchFolder scratch;
  const TinyModel tiny = make_tiny("v7");
  TrainJob job = make_job(tiny, write_repetitive(scratch), scratch.file("work"));
  job.options.learning_rate = 1e4;
  job.options.warmup = 0;
  const Status status = refusal(job);
  CHECK(status.code() == Code::Failed);
  CHECK_THAT(status.message(), Contains("step ") && Contains("not finite, first in "));
}

TEST_CASE("A folder that cannot be written ends a training", "[train]") {
  const ScratchFolder scratch;
  const TinyModel tiny = make_tiny("v5.2");
  const std::string text = write_repetitive(scratch);
  for (const std::string& folder : {text + "/work", std::string("/proc")}) {
    const Status status = refusal(make_job(tiny, text, folder));
    CHECK(status.code() == Code::Failed);
    CHECK_THAT(status.message(), Contains(folder));
  }
}
