#include "compressor/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/train/snapshot.h"
#include "compressor/train/teacher.h"
#include "compressor/train/teacher_answers.h"
#include "compressor/train/threads_said.h"
#include "compressor/train/token_data.h"
#include "compressor/train/work_lock.h"
#include "formats/base/leftovers.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

// At most this many sequences of the validation data are used.
constexpr uint64_t kValidPieces = 64;

class Training {
 public:
  Training(const TrainJob& job, ProcessGroup& group)
      : job_(job), options_(job.options), group_(group) {}
  Result<Trained> run();

 private:
  Status make_folder();
  Status load_models();
  Status open_data();
  bool asks_teacher() const {
    return options_.loss.head.distill > 0 || options_.loss.block_match > 0;
  }
  Status find_answers();
  Status resume();
  Status load_newest(const std::vector<std::string>& snapshots);
  Status share_state();
  Result<int> choose_threads();
  Status run_steps();
  Status round_codes();
  void settle_codes(uint64_t number);
  Status step(uint64_t number);
  Status save(LossRow& row);
  Result<double> validate() const;
  Status not_finite(uint64_t number, const Batch& batch) const;
  std::string settings() const;
  void note(const std::string& line) const {
    if (group_.is_first() && job_.callbacks.on_note) {
      job_.callbacks.on_note(line);
    }
  }
  void warn(const std::string& line) const {
    if (group_.is_first() && job_.callbacks.on_warning) {
      job_.callbacks.on_warning(line);
    }
  }
  int64_t per_rank() const {
    return static_cast<int64_t>(options_.batch) / static_cast<int64_t>(group_.size());
  }

  const TrainJob& job_;
  TrainOptions options_;
  ProcessGroup& group_;
  std::unique_ptr<Network> student_, teacher_;
  std::unique_ptr<AdamW> optimizer_;
  std::optional<TokenData> data_, valid_;
  std::optional<TeacherAnswers> answers_;  // instead of teacher_
  std::optional<LossLog> log_;
  std::optional<WorkLock> lock_;  // only the first process has it
  uint64_t done_ = 0;
  double seconds_ = 0.0;
  std::vector<int> saved_threads_;  // of the snapshot, by rank; only the first process has them
  std::vector<int> threads_;        // now
  LossRow row_;
};

Status Training::make_folder() {
  std::error_code error;
  fs::create_directories(job_.folder, error);
  if (error) {
    return failed("{}: cannot make the folder: {}", job_.folder, error.message());
  }
  if (group_.is_first()) {
    RWKV_ASSIGN(WorkLock lock, WorkLock::take(job_.folder));
    lock_.emplace(std::move(lock));
    remove_leftovers(job_.folder, "");
  }
  return {};
}

Status Training::load_models() {
  RWKV_ASSIGN(const Network::IsTrainable is_trainable,
              trainable_in(options_.parameters, job_.student.model.tensors));
  const auto is_leaf = [&](const std::string& name) {
    return is_trainable(name) || (job_.codes != nullptr && job_.codes->has(name));
  };
  RWKV_ASSIGN(student_,
              Network::load(job_.student.source, job_.student.model.config, is_leaf, job_.device));
  student_->hold_fixed();
  student_->set_precision(options_.loss.head.precision);
  if (asks_teacher() && options_.teacher_top_k == 0) {
    RWKV_ASSIGN(teacher_, Network::load(job_.teacher->source, job_.teacher->model.config, nullptr,
                                        job_.device));
    teacher_->hold_fixed();
    teacher_->set_precision(options_.loss.head.precision);
  }
  std::vector<Parameter> parameters = student_->parameters();
  if (job_.codes != nullptr) {
    RWKV_ASSIGN(parameters, job_.codes->attach(student_->parameters(), is_trainable));
  }
  optimizer_ = std::make_unique<AdamW>(std::move(parameters), options_.adamw);
  return {};
}

// One rank tokenizes the text; the others find its token file if they share the folder.
Status Training::open_data() {
  const auto open = [&]() -> Status {
    const auto length = static_cast<int64_t>(options_.length);
    const uint64_t n_vocab = job_.student.model.config.n_vocab;
    RWKV_ASSIGN(data_,
                TokenData::open(options_.data, job_.vocabulary, n_vocab, length, job_.folder));
    if (!options_.start_after.empty()) {
      RWKV_ASSIGN(const int32_t id,
                  token_named("start_after", options_.start_after, job_.vocabulary));
      RWKV_TRY(data_->start_after(id));
    }
    if (!options_.valid.empty()) {
      RWKV_ASSIGN(valid_,
                  TokenData::open(options_.valid, job_.vocabulary, n_vocab, length, job_.folder));
    }
    return {};
  };
  if (group_.is_first()) {
    RWKV_TRY(open());
  }
  RWKV_TRY(group_.barrier());
  return group_.is_first() ? Status() : open();
}

Status Training::find_answers() {
  if (!options_.answers_after.empty()) {
    RWKV_ASSIGN(options_.loss.answers_after,
                token_named("answers_after", options_.answers_after, job_.vocabulary));
  }
  return {};
}

std::string Training::settings() const {
  YAML::Emitter out;
  emit_train_options(options_, out);
  return fmt::format(
      "student: {} ({})\nteacher: {}\ndata: {:016x}\nseed: {}\ntensors that move: {}\n{}{}\n",
      job_.student.source.path(), describe(job_.student.model.config),
      asks_teacher() ? job_.teacher->source.path() : "none", data_->fingerprint(), job_.seed,
      optimizer_->parameters().size(),
      job_.codes
          ? fmt::format("codes: {}\nsettle: {}\n", job_.codes->description(), options_.settle)
          : "",
      out.c_str());
}

// The newest snapshot that is whole. Other settings end the search, since they are the user's, and
// so does a disk that cannot be read.
Status Training::load_newest(const std::vector<std::string>& snapshots) {
  std::string newest_fault;
  for (const std::string& path : snapshots) {
    const auto state = load_snapshot(path, settings(), options_.steps, *optimizer_);
    if (state.ok()) {
      done_ = state.value().step;
      seconds_ = state.value().seconds;
      saved_threads_ = state.value().threads;
      note(fmt::format("going on from {} ({} of {} steps done)", path, done_, options_.steps));
      return {};
    }
    if (state.status().code() != Code::BadInput) {
      return state.status();
    }
    warn(fmt::format("{}; passed over for the snapshot before it", state.status().message()));
    newest_fault = newest_fault.empty() ? state.status().message() : newest_fault;
  }
  return bad_input(
      "{}: found no snapshot that a training can continue from, of {} ({}); to start again, remove "
      "the folder",
      job_.folder, snapshots.size(), newest_fault);
}

Status Training::resume() {
  if (!group_.is_first()) {
    return {};
  }
  RWKV_ASSIGN(const std::vector<std::string> snapshots, snapshots_in(job_.folder));
  if (!snapshots.empty() && !job_.resume) {
    return usage_error(
        "{}: has snapshots of a training; continue from them with --resume, or remove the folder",
        job_.folder);
  }
  if (!snapshots.empty()) {
    RWKV_TRY(load_newest(snapshots));
  }
  RWKV_ASSIGN(log_, LossLog::open(job_.folder, done_));
  if (log_->last() != nullptr) {
    row_ = *log_->last();
  }
  return {};
}

Status Training::share_state() {
  if (group_.size() == 1) {
    return {};
  }
  const at::Tensor step = at::full({1}, static_cast<double>(done_), at::kDouble);
  std::vector<at::Tensor> all = {step};
  for (size_t i = 0; i < optimizer_->parameters().size(); ++i) {
    all.push_back(optimizer_->parameters()[i].values.detach());
    all.push_back(optimizer_->mean(i));
    all.push_back(optimizer_->square(i));
  }
  RWKV_TRY(group_.broadcast(all));
  done_ = static_cast<uint64_t>(step.item<double>());
  return {};
}

// Those of the snapshot, unless the job says otherwise. Every rank learns the numbers of all.
Result<int> Training::choose_threads() {
  const auto size = static_cast<size_t>(group_.size());
  const int otherwise = std::clamp(at::get_num_threads(), 1, kMaxTrainThreads);
  at::Tensor numbers = at::zeros({group_.size()}, at::kDouble);
  if (saved_threads_.size() == size) {
    std::copy(saved_threads_.begin(), saved_threads_.end(), numbers.data_ptr<double>());
  }
  if (group_.size() > 1) {
    RWKV_TRY(group_.broadcast({numbers}));
  }
  const auto before = static_cast<int>(numbers[group_.rank()].item<double>());
  const int now = job_.threads > 0 ? job_.threads : before > 0 ? before : otherwise;
  numbers.zero_();
  numbers[group_.rank()] = now;
  RWKV_TRY(group_.sum({numbers}));
  threads_.assign(numbers.data_ptr<double>(), numbers.data_ptr<double>() + size);
  const ThreadsSaid said = say_threads(saved_threads_, threads_, {before, now, otherwise});
  if (!said.line.empty()) {
    said.is_warning ? warn(said.line) : note(said.line);
  }
  return now;
}

Status Training::not_finite(uint64_t number, const Batch& batch) const {
  const std::string place = find_not_finite(*student_, batch);
  RWKV_ASSIGN(const std::vector<std::string> saved, snapshots_in(job_.folder));
  return failed(
      "step {}: the loss or its gradient is not finite, first in {}; a lower learning rate or "
      "precision fp32 may help; {}",
      number, place.empty() ? "the loss" : place,
      saved.empty() ? "no snapshot was written before"
                    : fmt::format("the snapshot before it is {}", saved.front()));
}

// After the parameters changed.
Status Training::round_codes() {
  return job_.codes != nullptr ? job_.codes->round() : Status();
}

// Before a step; `number` of it.
void Training::settle_codes(uint64_t number) {
  if (job_.codes != nullptr && number == steps_before_settling(options_) + 1) {
    job_.codes->settle(CodedTensor::Codes::OfLastRound);
    note(fmt::format("from step {} on codes stay", number));
  }
}

Status Training::step(uint64_t number) {
  const auto begin = std::chrono::steady_clock::now();
  const uint64_t first = (number - 1) * options_.batch +
                         static_cast<uint64_t>(group_.rank()) * static_cast<uint64_t>(per_rank());
  const int64_t micro = std::min(per_rank(), static_cast<int64_t>(options_.micro_batch));
  const auto tokens = static_cast<double>(options_.batch * options_.length);
  LossSums sums;
  Batch batch;
  for (int64_t i = 0; i < per_rank(); i += micro) {
    RWKV_ASSIGN(batch, data_->sample(first + static_cast<uint64_t>(i),
                                     std::min(micro, per_rank() - i), job_.seed));
    if (answers_) {
      RWKV_ASSIGN(batch.answers, answers_->read(first + static_cast<uint64_t>(i),
                                                std::min(micro, per_rank() - i)));
    }
    batch = batch.to(job_.device);
    sums += add_gradients(*student_, teacher_.get(), batch, options_.loss, 1.0 / tokens);
  }
  if (job_.codes != nullptr) {
    job_.codes->take_gradients();
  }
  if (group_.size() > 1) {
    std::vector<at::Tensor> gradients;
    for (const Parameter& parameter : optimizer_->parameters()) {
      if (parameter.values.grad().defined()) {
        gradients.push_back(parameter.values.grad());
      }
    }
    RWKV_TRY(group_.sum(gradients));
    for (double* sum : {&sums.cross_entropy, &sums.divergence, &sums.block_match}) {
      RWKV_TRY(group_.sum(*sum));
    }
  }
  const double loss = sums.total(options_.loss) / tokens;
  const double norm = optimizer_->gradient_norm();
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    return not_finite(number, batch);
  }
  const double rate = learning_rate_at(options_, number);
  const bool clips = options_.clip > 0 && norm > options_.clip;
  optimizer_->step(rate, clips ? options_.clip / norm : 1.0, number);
  RWKV_TRY(round_codes());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  seconds_ += took.count();
  row_ = {number,
          number * options_.batch * options_.length,
          seconds_,
          rate,
          loss,
          sums.cross_entropy / tokens,
          sums.divergence / tokens,
          sums.block_match / tokens,
          norm,
          -1.0};
  return {};
}

// The pieces are distributed, so that no rank waits while another works.
Result<double> Training::validate() const {
  if (!valid_) {
    return -1.0;
  }
  const auto n = static_cast<int64_t>(std::min(kValidPieces, valid_->n_pieces()));
  const int64_t micro = std::min<int64_t>(n, static_cast<int64_t>(options_.micro_batch));
  double sum = 0;
  for (int64_t i = 0; i < n; i += micro) {
    if (i / micro % group_.size() != group_.rank()) {
      continue;
    }
    RWKV_ASSIGN(const Batch batch, valid_->piece(static_cast<uint64_t>(i), std::min(micro, n - i)));
    sum +=
        evaluate_loss(*student_, batch.to(job_.device), options_.loss.head.precision).cross_entropy;
  }
  RWKV_TRY(group_.sum(sum));
  return sum / static_cast<double>(n * static_cast<int64_t>(options_.length));
}

Status Training::save(LossRow& row) {
  RWKV_ASSIGN(row.valid, validate());
  if (!group_.is_first()) {
    return {};
  }
  log_->add(row);
  RWKV_TRY(log_->save());  // first, since on resume rows after a snapshot are dropped, but gaps
                           // would stay
  RWKV_ASSIGN(const std::string path,
              save_snapshot(job_.folder, {done_, seconds_, settings(), threads_}, *optimizer_));
  if (row.valid >= 0) {
    note(fmt::format("step {}: validation loss {:.4f}", done_, row.valid));
  }
  if (job_.callbacks.on_saved) {
    job_.callbacks.on_saved(path, done_);
  }
  return {};
}

Status Training::run_steps() {
  double tokens_per_second = 0;
  for (uint64_t number = done_ + 1; number <= options_.steps; ++number) {
    const double before = seconds_;
    settle_codes(number);
    RWKV_TRY(step(number));
    done_ = number;
    const double now = static_cast<double>(options_.batch * options_.length) / (seconds_ - before);
    tokens_per_second = tokens_per_second > 0 ? 0.95 * tokens_per_second + 0.05 * now : now;
    double goes_on = 1;
    if (group_.is_first() && job_.callbacks.on_step) {
      const double left =
          static_cast<double>((options_.steps - number) * options_.batch * options_.length) /
          tokens_per_second;
      goes_on = job_.callbacks.on_step({row_, options_.steps, tokens_per_second, left}) ? 1.0 : 0.0;
    }
    if (!group_.is_first()) {
      goes_on = 0;
    }
    RWKV_TRY(group_.sum(goes_on));
    if (number == options_.steps || goes_on == 0 || number % options_.save_every == 0) {
      RWKV_TRY(save(row_));
    } else if (group_.is_first()) {
      log_->add(row_);
    }
    if (goes_on == 0) {
      break;
    }
  }
  return {};
}

Result<Trained> Training::run() {
  RWKV_TRY(check_teacher(job_));
  if (group_.size() > 1 && options_.teacher_top_k > 0) {
    return usage_error("train.teacher_top_k: works in one process, found {}; set it to 0",
                       group_.size());
  }
  RWKV_TRY(find_answers());
  RWKV_TRY(load_models());
  RWKV_TRY(make_folder());
  RWKV_TRY(open_data());
  RWKV_TRY(resume());
  RWKV_TRY(share_state());
  if (job_.codes != nullptr && done_ > steps_before_settling(options_)) {
    job_.codes->settle(CodedTensor::Codes::InParameters);
  }
  RWKV_TRY(round_codes());
  RWKV_ASSIGN(const int n_threads, choose_threads());
  const ThreadCount with(n_threads);
  if (asks_teacher() && options_.teacher_top_k > 0) {
    RWKV_ASSIGN(TeacherAnswers answers, TeacherAnswers::prepare(job_, *data_));
    answers_.emplace(std::move(answers));
  }
  note(fmt::format("training {} tensors on {} tokens, products in {} on {}{}",
                   optimizer_->parameters().size(), data_->n_tokens(),
                   options_.wants_bf16 ? "bf16" : "fp32", job_.device.str(),
                   group_.size() > 1 ? fmt::format(", in {} processes", group_.size()) : ""));
  RWKV_TRY(run_steps());
  return Trained{std::move(student_), done_, done_ == options_.steps, row_};
}

}  // namespace

Result<Trained> train(const TrainJob& job, ProcessGroup& group) {
  return Training(job, group).run();
}

}  // namespace rwkv::press
