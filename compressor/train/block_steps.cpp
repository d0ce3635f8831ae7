#include "compressor/train/block_steps.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/snapshot.h"

namespace rwkv::press {
namespace {

// Sequences on which a block is measured before and after.
constexpr uint64_t kMeasured = 8;

// The sequences of each step: all of them in an order that is drawn, then all in another order.
class Draws {
 public:
  Draws(uint64_t n, uint64_t seed) : seed_(seed), order_(n) {}
  uint64_t at(uint64_t number) {
    if (const uint64_t round = number / order_.size(); !has_round_ || round != round_) {
      shuffle(round);
    }
    return order_[number % order_.size()];
  }

 private:
  void shuffle(uint64_t round) {
    has_round_ = true;
    round_ = round;
    std::iota(order_.begin(), order_.end(), uint64_t{0});
    SplitMixRandom random(mix64(seed_ + round * kGolden));
    for (size_t i = order_.size(); i > 1; --i) {
      std::swap(order_[i - 1], order_[random.remainder(i)]);
    }
  }
  uint64_t seed_;
  std::vector<uint64_t> order_;
  uint64_t round_ = 0;
  bool has_round_ = false;
};

// The options of a block's steps as those of a whole training.
TrainOptions own_options(const BlockJob& job) {
  TrainOptions options = job.options;
  options.steps = job.blocks.steps;
  const double end = options.learning_rate > 0 ? options.final_rate / options.learning_rate : 0.0;
  options.learning_rate = job.blocks.learning_rate;
  options.final_rate = end * job.blocks.learning_rate;
  options.warmup = std::min(options.warmup, options.steps / 5);
  return options;
}

class Steps {
 public:
  explicit Steps(const BlockSteps& setting)
      : setting_(setting),
        job_(setting.job),
        options_(own_options(setting.job)),
        draws_(setting.n_sequences, job_.seed + static_cast<uint64_t>(setting.index)) {}
  Result<std::optional<BlockResult>> run(uint64_t& step);

 private:
  Status load();
  Status resume();
  Status step(uint64_t number);
  Result<BlockLoss> loss_of(std::span<const uint64_t> sequences) const;
  Result<BlockErrors> add_gradients(std::span<const uint64_t> sequences);
  Result<BlockErrors> measure() const;
  Result<bool> go_on(uint64_t number, double seconds);
  Status save(uint64_t number);
  Result<BlockResult> result() const;

  const BlockSteps& setting_;
  const BlockJob& job_;
  TrainOptions options_;
  Draws draws_;
  std::unique_ptr<Block> block_;
  std::vector<Parameter> leaves_;
  std::optional<CodedWeights> codes_;
  std::unique_ptr<AdamW> optimizer_;
  uint64_t done_ = 0;
  BlockErrors now_;
  double seconds_ = 0;
};

Status Steps::load() {
  if (job_.codes) {
    RWKV_ASSIGN(codes_, job_.codes(setting_.index));
  }
  const Adopt adopt = [&](const std::string& name, at::Tensor& values) {
    if (setting_.is_trainable(name) || (codes_ && codes_->has(name))) {
      values = values.contiguous().set_requires_grad(true);
      leaves_.push_back({name, values});
    }
  };
  RWKV_ASSIGN(block_, Block::load(NamedTensors(job_.student.source, &adopt, job_.device),
                                  job_.student.model.config, setting_.index));
  block_->precision = options_.loss.head.precision;
  std::vector<Parameter> parameters = leaves_;
  if (codes_) {
    RWKV_ASSIGN(parameters, codes_->attach(leaves_, setting_.is_trainable));
  }
  optimizer_ = std::make_unique<AdamW>(std::move(parameters), options_.adamw);
  return {};
}

Status Steps::resume() {
  RWKV_ASSIGN(const std::vector<std::string> snapshots, snapshots_in(setting_.folder));
  for (const std::string& path : snapshots) {
    const auto state = load_snapshot(path, setting_.settings, options_.steps, *optimizer_);
    if (state.ok()) {
      done_ = state.value().step;
      seconds_ = state.value().seconds;
      if (codes_ && done_ > steps_before_settling(options_)) {
        codes_->settle(CodedTensor::Codes::InParameters);
      }
      return codes_ ? codes_->round() : Status();
    }
    if (state.status().code() != Code::BadInput) {
      return state.status();
    }
    if (job_.callbacks.on_warning) {
      job_.callbacks.on_warning(
          fmt::format("{}; passed over for the snapshot before it", state.status().message()));
    }
  }
  // A damaged snapshot may have been read in part.
  return snapshots.empty() ? Status() : load();
}

Result<BlockLoss> Steps::loss_of(std::span<const uint64_t> sequences) const {
  const BlockFiles& files = setting_.files;
  RWKV_ASSIGN(const at::Tensor x, files.inputs.gather(kStreamX, sequences));
  BlockValues ours;
  at::Tensor v_first;
  if (files.first_values) {
    RWKV_ASSIGN(v_first, files.first_values->gather(BlockStreams::kFirstValues, sequences));
    v_first = v_first.flatten(0, 1).to(job_.device);
  }
  RWKV_ASSIGN(BlockValues theirs,
              setting_.streams.targets(files.targets, setting_.index + 1, sequences));
  theirs = theirs.to(job_.device);
  ours.x = block_->forward(x.to(job_.device), v_first, {}, &ours.state);
  if (theirs.v_first.defined()) {
    ours.v_first = v_first.reshape(theirs.v_first.sizes());
  }
  return block_loss(ours, theirs, files.targets.energy(), job_.blocks.state_weight);
}

Result<BlockErrors> Steps::add_gradients(std::span<const uint64_t> sequences) {
  RWKV_ASSIGN(const BlockLoss loss, loss_of(sequences));
  const double share = static_cast<double>(sequences.size()) / static_cast<double>(options_.batch);
  if (loss.loss.requires_grad()) {
    torch::autograd::backward({loss.loss * share}, {});
  }
  return BlockErrors{loss.errors.output * share, loss.errors.state * share};
}

// On the first sequences, one by one, so that it depends on no setting of the training.
Result<BlockErrors> Steps::measure() const {
  const at::NoGradGuard no_grad;
  const uint64_t n = std::min(kMeasured, setting_.n_sequences);
  BlockErrors sum;
  for (uint64_t i = 0; i < n; ++i) {
    RWKV_ASSIGN(const BlockLoss loss, loss_of({&i, 1}));
    sum += loss.errors;
  }
  return sum / static_cast<double>(n);
}

Status Steps::step(uint64_t number) {
  if (codes_ && number == steps_before_settling(options_) + 1) {
    codes_->settle(CodedTensor::Codes::OfLastRound);
  }
  const auto begin = std::chrono::steady_clock::now();
  std::vector<uint64_t> sequences(options_.batch);
  for (uint64_t i = 0; i < options_.batch; ++i) {
    sequences[i] = draws_.at((number - 1) * options_.batch + i);
  }
  now_ = {};
  for (uint64_t i = 0; i < options_.batch; i += options_.micro_batch) {
    RWKV_ASSIGN(const BlockErrors errors,
                add_gradients(std::span(sequences).subspan(i, options_.micro_batch)));
    now_ += errors;
  }
  if (codes_) {
    codes_->take_gradients();
  }
  const double norm = optimizer_->gradient_norm();
  if (!std::isfinite(now_.output + now_.state) || !std::isfinite(norm)) {
    return failed(
        "block {}, step {}: the loss or its gradient is not finite; a lower train.block_lr or "
        "precision fp32 may help",
        setting_.index, number);
  }
  const bool clips = options_.clip > 0 && norm > options_.clip;
  optimizer_->step(learning_rate_at(options_, number), clips ? options_.clip / norm : 1.0, number);
  if (codes_) {
    RWKV_TRY(codes_->round());
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  seconds_ += took.count();
  return {};
}

Status Steps::save(uint64_t number) {
  std::error_code error;
  std::filesystem::create_directories(setting_.folder, error);
  if (error) {
    return failed("{}: cannot make the folder: {}", setting_.folder, error.message());
  }
  return save_snapshot(setting_.folder, {number, seconds_, setting_.settings, {setting_.threads}},
                       *optimizer_)
      .status();
}

// Reports, and saves where it is time to. False: the training ends here.
Result<bool> Steps::go_on(uint64_t number, double seconds) {
  LossRow row;
  row.step = setting_.steps_before + number;
  row.tokens = row.step * options_.batch * options_.length;
  row.seconds = seconds_;
  row.rate = learning_rate_at(options_, number);
  row.loss = now_.output + job_.blocks.state_weight * now_.state;
  row.block_match = now_.output;
  const double left = static_cast<double>(setting_.steps_of_all - row.step) * seconds;
  const bool goes_on = !job_.callbacks.on_step ||
                       job_.callbacks.on_step(
                           {row, setting_.steps_of_all,
                            static_cast<double>(options_.batch * options_.length) / seconds, left});
  if (number < options_.steps && (!goes_on || number % options_.save_every == 0)) {
    RWKV_TRY(save(number));
  }
  return goes_on || number == options_.steps;
}

Result<BlockResult> Steps::result() const {
  BlockResult result;
  result.settings = setting_.settings;
  for (const Parameter& leaf : leaves_) {
    if (codes_ && codes_->has(leaf.name)) {
      RWKV_ASSIGN(result.codes[leaf.name], codes_->codes(leaf.name));
    } else if (leaf.values.requires_grad()) {
      result.values.push_back(leaf);
    }
  }
  return result;
}

Result<std::optional<BlockResult>> Steps::run(uint64_t& step_number) {
  RWKV_TRY(load());
  RWKV_ASSIGN(const BlockErrors at_first, measure());
  RWKV_TRY(resume());
  for (uint64_t number = done_ + 1; number <= options_.steps; ++number) {
    const double before = seconds_;
    RWKV_TRY(step(number));
    step_number = number;
    RWKV_ASSIGN(const bool goes_on, go_on(number, seconds_ - before));
    if (!goes_on) {
      return std::optional<BlockResult>();
    }
  }
  RWKV_ASSIGN(BlockResult trained, result());
  trained.before = at_first;
  RWKV_ASSIGN(trained.after, measure());
  return std::optional<BlockResult>(std::move(trained));
}

}  // namespace

Result<std::optional<BlockResult>> BlockSteps::run(uint64_t& step) const {
  return Steps(*this).run(step);
}

}  // namespace rwkv::press
