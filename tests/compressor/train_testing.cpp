#include "tests/compressor/train_testing.h"

#include <cstring>

#include "compressor/checkpoint/open.h"
#include "compressor/train/initial_values.h"
#include "tests/support/catch.h"

namespace rwkv::test {

TinyModel make_tiny(const std::string& arch, uint64_t seed, uint64_t n_vocab) {
  press::NewModelOptions options;
  options.arch = arch;
  options.n_layer = 3;
  options.n_embd = 64;
  options.n_vocab = n_vocab;
  options.dim_ffn = 96;
  TinyModel tiny;
  auto source = press::initial_model(options, {.seed = seed});
  REQUIRE_OK(source.status());
  tiny.source = source.take();
  auto model = press::identify_checkpoint(*tiny.source);
  REQUIRE_OK(model.status());
  tiny.model = model.take();
  return tiny;
}

TinyModel with_number(const TinyModel& model, const std::string& name, float value) {
  TinyModel copy;
  copy.source = std::make_unique<press::MemorySource>("the changed model");
  copy.model = model.model;
  const std::vector<TensorInfo>& infos = model.source->tensors();
  bool is_found = false;
  for (size_t i = 0; i < infos.size(); ++i) {
    std::vector<std::byte> raw;
    REQUIRE_OK(model.source->read(i, raw));
    std::vector<float> values(raw.size() / sizeof(float));
    std::memcpy(values.data(), raw.data(), raw.size());
    if (infos[i].name == name) {
      values[0] = value;
      is_found = true;
    }
    copy.source->add(infos[i].name, infos[i].shape, values);
  }
  REQUIRE(is_found);
  return copy;
}

std::string repetitive_text(size_t n) {
  std::string text;
  while (text.size() < n) {
    text += "abcdefghij";
  }
  text.resize(n);
  return text;
}

press::TrainOptions small_options(const std::string& path) {
  press::TrainOptions options;
  options.data = {path};
  options.steps = 12;
  options.batch = 4;
  options.micro_batch = 4;
  options.length = 24;
  options.warmup = 2;
  options.learning_rate = 5e-3;
  return options;
}

press::TrainJob make_job(const TinyModel& student, const std::string& path,
                         const std::string& folder) {
  press::TrainOptions options = small_options(path);
  options.adamw.weight_decay = 0.01;
  return {options, 7, student.ref(), std::nullopt, Vocabulary{}, folder, false, 0, {}};
}

std::unique_ptr<press::ProcessGroup> one_process() {
  auto group = press::ProcessGroup::from_environment(1);
  REQUIRE_OK(group.status());
  REQUIRE(group.value()->size() == 1);
  return group.take();
}

press::Trained train_all(const press::TrainJob& job) {
  const auto group = one_process();
  auto trained = press::train(job, *group);
  REQUIRE_OK(trained.status());
  return trained.take();
}

bool same_parameters(const press::Trained& a, const press::Trained& b) {
  const auto& ours = a.network->parameters();
  const auto& theirs = b.network->parameters();
  bool is_same = ours.size() == theirs.size();
  for (size_t i = 0; is_same && i < ours.size(); ++i) {
    is_same = ours[i].name == theirs[i].name && ours[i].values.equal(theirs[i].values);
  }
  return is_same;
}

press::TrainCallbacks stop_after(uint64_t last, std::vector<press::StepReport>* reports) {
  press::TrainCallbacks callbacks;
  callbacks.on_step = [last, reports](const press::StepReport& report) {
    if (reports) {
      reports->push_back(report);
    }
    return report.row.step < last;
  };
  return callbacks;
}

}  // namespace rwkv::test
