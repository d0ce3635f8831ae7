#include "compressor/train/block_trainer.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/train/block_steps.h"
#include "compressor/train/snapshot.h"
#include "compressor/train/token_data.h"
#include "compressor/train/work_lock.h"
#include "formats/base/checksum.h"
#include "formats/base/file.h"
#include "formats/base/leftovers.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxThreadsText = 16;

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// What a block's values depend on in the options; the rest belongs to the steps that follow.
std::string option_lines(const BlockJob& job) {
  TrainOptions options;
  options.batch = job.options.batch;
  options.micro_batch = job.options.micro_batch;
  options.length = job.options.length;
  options.start_after = job.options.start_after;
  options.learning_rate = job.options.learning_rate;
  options.final_rate = job.options.final_rate;
  options.warmup = job.options.warmup;
  options.clip = job.options.clip;
  options.adamw = job.options.adamw;
  options.parameters = job.options.parameters;
  options.precision = job.options.precision;
  options.wants_bf16 = job.options.wants_bf16;
  BlockOptions blocks = job.blocks;
  YAML::Emitter out, own;
  emit_train_options(options, out);
  Settings("blocks", block_settings(blocks, true)).emit(own);
  return fmt::format("{}\n{}\nsettle: {}\n", out.c_str(), own.c_str(), job.options.settle);
}

// Of every tensor of a model, in the order of the file.
Result<uint64_t> fingerprint_of(const TensorSource& source) {
  StreamingXxh64 hash;
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const std::string& name = source.tensors()[i].name;
    RWKV_TRY(source.read(i, bytes));
    hash.update(std::as_bytes(std::span(name.data(), name.size())));
    hash.update(bytes);
  }
  return hash.digest();
}

class BlockTraining {
 public:
  explicit BlockTraining(const BlockJob& job)
      : job_(job), shard_(job.shard.value_or(BlockShard{})) {}
  Result<BlocksTrained> run();

 private:
  Status begin();
  Status open_data();
  Status choose_threads();
  Status describe();
  Status check_resumed() const;
  BlockStreams streams();
  Result<bool> take(int64_t index);
  Result<bool> train(BlockStreams& streams, int64_t index);
  Result<BlockFiles> files_of(BlockStreams& streams, int64_t index);
  Status put(const BlockResult& result, int64_t index);

  void note(const std::string& line) const {
    if (job_.callbacks.on_note) {
      job_.callbacks.on_note(line);
    }
  }
  void warn(const std::string& line) const {
    if (job_.callbacks.on_warning) {
      job_.callbacks.on_warning(line);
    }
  }
  bool is_own(int64_t index) const {
    return static_cast<uint64_t>(index) % shard_.n == shard_.index;
  }
  bool is_trained(int64_t index) const;
  int64_t n_layer() const { return static_cast<int64_t>(job_.student.model.config.n_layer); }
  std::string settings_of(int64_t index) const {
    return fmt::format("block: {}\n{}", index, settings_);
  }
  std::optional<uint64_t> numbers_of(const std::string& name, int64_t index) const;
  // Of this part alone.
  std::string own_folder() const {
    return (fs::path(job_.folder) / fmt::format("part-{}-of-{}", shard_.index + 1, shard_.n))
        .string();
  }

  const BlockJob& job_;
  BlockShard shard_;
  std::optional<WorkLock> lock_;
  std::optional<TokenData> data_;
  Network::IsTrainable is_trainable_;
  uint64_t n_sequences_ = 0;
  int threads_ = 1;
  std::string settings_;
  BlocksTrained done_;
  uint64_t steps_done_ = 0, steps_of_all_ = 0;
};

bool BlockTraining::is_trained(int64_t index) const {
  const std::string prefix = fmt::format("blocks.{}.", index);
  const auto& tensors = job_.student.model.tensors;
  return std::any_of(tensors.begin(), tensors.end(), [&](const TensorBinding& tensor) {
    return tensor.name.starts_with(prefix) && is_trainable_(tensor.name);
  });
}

std::optional<uint64_t> BlockTraining::numbers_of(const std::string& name, int64_t index) const {
  const std::optional<size_t> at = find_tensor(job_.student.source, name);
  return at && name.starts_with(fmt::format("blocks.{}.", index))
             ? std::optional(job_.student.source.tensors()[*at].n_elements())
             : std::nullopt;
}

Status BlockTraining::open_data() {
  const TrainOptions& options = job_.options;
  RWKV_ASSIGN(data_,
              TokenData::open(options.data, job_.vocabulary, job_.student.model.config.n_vocab,
                              static_cast<int64_t>(options.length), own_folder()));
  if (!options.start_after.empty()) {
    RWKV_ASSIGN(const int32_t id, token_named("start_after", options.start_after, job_.vocabulary));
    RWKV_TRY(data_->start_after(id));
  }
  n_sequences_ =
      job_.blocks.sequences > 0 ? job_.blocks.sequences : job_.blocks.steps * options.batch;
  return {};
}

// The number is kept, so that a training that goes on has the same.
Status BlockTraining::choose_threads() {
  const std::string path = own_folder() + "/threads";
  int saved = 0;
  if (exists(path)) {
    RWKV_ASSIGN(const std::string text, read_text_file(path, kMaxThreadsText));
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), saved);
    if (error != std::errc() || saved < 1 || saved > kMaxTrainThreads) {
      return bad_input("{}: expected a number of threads from 1 to {}, found '{}'; remove it", path,
                       kMaxTrainThreads, text);
    }
  }
  threads_ = job_.threads > 0 ? job_.threads
             : saved > 0      ? saved
                              : std::clamp(at::get_num_threads(), 1, kMaxTrainThreads);
  if (saved > 0 && saved != threads_) {
    warn(
        fmt::format("threads: {} before, now {}; the result will differ in rounding from that of "
                    "an uninterrupted training",
                    saved, threads_));
  }
  RWKV_ASSIGN(const auto file, OutputFile::create(path, OutputFile::Existing::Replace));
  const std::string text = std::to_string(threads_);
  RWKV_TRY(file->write(std::as_bytes(std::span(text.data(), text.size()))));
  return file->commit();
}

Status BlockTraining::describe() {
  RWKV_ASSIGN(const uint64_t student, fingerprint_of(job_.student.source));
  settings_ = fmt::format("teacher: {} ({})\nstudent: {:016x} ({})\ndata: {:016x}\nseed: {}\n{}",
                          job_.teacher.source.path(), rwkv::describe(job_.teacher.model.config),
                          student, rwkv::describe(job_.student.model.config), data_->fingerprint(),
                          job_.seed, option_lines(job_));
  return {};
}

Status BlockTraining::check_resumed() const {
  for (int64_t i = 0; i < n_layer() && !job_.resume && !job_.shard; ++i) {
    if (exists(block_path(job_.folder, i))) {
      return usage_error("{}: has trained blocks; continue with --resume, or remove the folder",
                         job_.folder);
    }
  }
  return {};
}

Status BlockTraining::begin() {
  RWKV_ASSIGN(is_trainable_, trainable_in(job_.options.parameters, job_.student.model.tensors));
  std::error_code error;
  fs::create_directories(own_folder(), error);
  if (error) {
    return failed("{}: cannot make the folder: {}", own_folder(), error.message());
  }
  RWKV_ASSIGN(WorkLock lock, WorkLock::take(own_folder()));
  lock_.emplace(std::move(lock));
  remove_leftovers(own_folder(), "");
  RWKV_TRY(check_resumed());
  RWKV_TRY(open_data());
  RWKV_TRY(choose_threads());
  RWKV_TRY(describe());
  for (int64_t i = 0; i < n_layer(); ++i) {
    if (is_trained(i) && is_own(i) && !exists(block_path(job_.folder, i))) {
      steps_of_all_ += job_.blocks.steps;
    }
  }
  return {};
}

BlockStreams BlockTraining::streams() {
  const uint64_t seed = mix64(job_.seed + kGolden);
  return BlockStreams({.folder = own_folder(),
                       .teacher = job_.teacher,
                       .student = job_.student,
                       .n_sequences = n_sequences_,
                       .length = static_cast<int64_t>(job_.options.length),
                       .precision = job_.options.loss.head.precision,
                       .device = job_.device,
                       .settings = settings_,
                       .tokens = [this, seed](uint64_t first, int64_t n) -> Result<at::Tensor> {
                         RWKV_ASSIGN(const Batch batch, data_->sample(first, n, seed));
                         return batch.inputs;
                       },
                       .progress = job_.progress});
}

Status BlockTraining::put(const BlockResult& result, int64_t index) {
  for (const Parameter& parameter : result.values) {
    RWKV_TRY(job_.put(parameter.name, parameter.values.detach().cpu()));
  }
  for (const auto& [name, codes] : result.codes) {
    RWKV_TRY(job_.put_codes(name, codes).in(block_path(job_.folder, index)));
  }
  ++done_.n_trained;
  done_.before += result.before;
  done_.after += result.after;
  return {};
}

// A block that is trained already; false if it is not.
Result<bool> BlockTraining::take(int64_t index) {
  const std::string path = block_path(job_.folder, index);
  if (!exists(path)) {
    return false;
  }
  RWKV_ASSIGN(const BlockResult result,
              load_block(path, settings_of(index),
                         [&](const std::string& name) { return numbers_of(name, index); }));
  RWKV_TRY(put(result, index));
  return true;
}

Result<BlockFiles> BlockTraining::files_of(BlockStreams& streams, int64_t index) {
  const bool is_students = !job_.blocks.is_independent();
  RWKV_ASSIGN(ActivationFile targets, streams.teacher(index + 1));
  RWKV_ASSIGN(ActivationFile inputs, is_students ? streams.student(index) : streams.teacher(index));
  RWKV_ASSIGN(std::optional<ActivationFile> first, streams.first_values(is_students, index));
  return BlockFiles{std::move(inputs), std::move(first), std::move(targets)};
}

// False: a callback ended it.
Result<bool> BlockTraining::train(BlockStreams& streams, int64_t index) {
  RWKV_ASSIGN(BlockFiles files, files_of(streams, index));
  streams.remove_before(index);
  const std::string folder = (fs::path(own_folder()) / fmt::format("block-{:04}", index)).string();
  const BlockSteps steps{job_,         streams,       std::move(files),   index,
                         n_sequences_, is_trainable_, settings_of(index), folder,
                         threads_,     steps_done_,   steps_of_all_};
  uint64_t step = 0;
  RWKV_ASSIGN(const std::optional<BlockResult> result, steps.run(step));
  if (!result) {
    done_.where = fmt::format("step {} of {} of block {}", step, job_.blocks.steps, index);
    return false;
  }
  RWKV_TRY(save_block(block_path(job_.folder, index), *result));
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  steps_done_ += job_.blocks.steps;
  note(
      fmt::format("block {} of {}: {:.1f} % of its output lost, {:.1f} % before; of its state "
                  "{:.1f} %, {:.1f} % before",
                  index, n_layer(), 100 * result->after.output, 100 * result->before.output,
                  100 * result->after.state, 100 * result->before.state));
  RWKV_TRY(put(*result, index));
  return true;
}

Result<BlocksTrained> BlockTraining::run() {
  RWKV_TRY(begin());
  const ThreadCount with(threads_);
  BlockStreams own_streams = streams();
  for (int64_t i = 0; i < n_layer(); ++i) {
    if (!is_trained(i)) {
      continue;
    }
    RWKV_ASSIGN(const bool is_done, take(i));
    if (is_done) {
      continue;
    }
    if (!is_own(i)) {
      ++done_.n_missing;
      continue;
    }
    RWKV_ASSIGN(const bool is_finished, train(own_streams, i));
    if (!is_finished) {
      return done_;
    }
  }
  done_.is_finished = true;
  own_streams.remove_before(n_layer() + 1);
  if (done_.n_trained > 0) {
    done_.before = done_.before / static_cast<double>(done_.n_trained);
    done_.after = done_.after / static_cast<double>(done_.n_trained);
  }
  return done_;
}

}  // namespace

Result<BlocksTrained> train_blocks(const BlockJob& job) {
  return BlockTraining(job).run();
}

}  // namespace rwkv::press
