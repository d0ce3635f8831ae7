#include "compressor/train/teacher_answers.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "compressor/checkpoint/sealed_file.h"
#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/snapshot.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

// Tokens of a file: their activations are in memory while it is written, and each file reads the
// whole teacher.
constexpr int64_t kFileTokens = 16384;
constexpr uint64_t kMaxSettings = uint64_t{1} << 20;
// Rounding of the log-probabilities, which are f16, and of sums.
constexpr float kTolerance = 0.02F;

enum Part : size_t { kIds, kLogP, kRest, kSettings };

std::vector<std::byte> bytes_of(const at::Tensor& values) {
  const at::Tensor own = values.contiguous();
  std::vector<std::byte> bytes(own.nbytes());
  std::memcpy(bytes.data(), own.data_ptr(), bytes.size());
  return bytes;
}

Status check(const std::string& path, const TopAnswers& answers, int64_t n_vocab) {
  const auto [sorted, order] = answers.ids.sort(1);
  const int64_t k = sorted.size(1);
  const bool are_distinct =
      k < 2 || sorted.narrow(1, 1, k - 1).gt(sorted.narrow(1, 0, k - 1)).all().item<bool>();
  const at::Tensor sum = answers.log_p.exp().sum(1) + answers.rest;
  const bool is_sound =
      are_distinct && sorted.min().item<int64_t>() >= 0 && sorted.max().item<int64_t>() < n_vocab &&
      at::isfinite(answers.log_p).all().item<bool>() && answers.rest.min().item<float>() >= 0 &&
      (sum - 1).abs().max().item<float>() <= kTolerance;
  return is_sound ? Status()
                  : bad_input(
                        "{}: expected tokens of the vocabulary with probabilities that sum up to "
                        "1, found others; remove it, and it is written again",
                        path);
}

}  // namespace

uint64_t TeacherAnswers::per_file() const {
  return static_cast<uint64_t>(std::max<int64_t>(1, kFileTokens / setting_.length));
}

uint64_t TeacherAnswers::size_of(uint64_t file) const {
  return std::min(per_file(), setting_.n_sequences - file * per_file());
}

std::string TeacherAnswers::path(uint64_t file) const {
  return (fs::path(setting_.folder) / fmt::format("answers-{:06}.safetensors", file)).string();
}

std::vector<TensorInfo> TeacherAnswers::infos(uint64_t file) const {
  const uint64_t n = size_of(file) * static_cast<uint64_t>(setting_.length);
  const auto k = static_cast<uint64_t>(setting_.top_k);
  return {{"ids", DType::I32, {n, k}},
          {"log_p", DType::F16, {n, k}},
          {"rest", DType::F32, {n}},
          {"settings", DType::U8, {setting_.settings.size()}}};
}

// The teacher, block by block, on the sequences of a file.
Result<TopAnswers> TeacherAnswers::ask(uint64_t file) const {
  const at::NoGradGuard no_grad;
  const TensorSource& source = setting_.teacher.source;
  const ModelConfig& config = setting_.teacher.model.config;
  RWKV_ASSIGN(const at::Tensor tokens,
              setting_.tokens(file * per_file(), static_cast<int64_t>(size_of(file))));
  RWKV_ASSIGN(at::Tensor x, embed(source, config, tokens));
  x = x.to(setting_.device);
  at::Tensor v_first;
  for (uint64_t i = 0; i < config.n_layer; ++i) {
    RWKV_ASSIGN(const auto block,
                Block::load(source, config, static_cast<int64_t>(i), setting_.device));
    block->precision = setting_.precision;
    x = block->forward(x, v_first, {});
  }
  RWKV_ASSIGN(const at::Tensor input, head_input(source, x.flatten(0, 1).cpu()));
  RWKV_ASSIGN(const at::Tensor head, load_named(source, "head.weight"));
  const TopAnswers answers = top_answers(input.to(setting_.device), head.to(setting_.device),
                                         setting_.top_k, setting_.temperature, setting_.precision);
  return TopAnswers{answers.ids.cpu(), answers.log_p.cpu(), answers.rest.cpu()};
}

Status TeacherAnswers::write(uint64_t file) const {
  RWKV_ASSIGN(const TopAnswers answers, ask(file));
  const std::vector<TensorInfo> all = infos(file);
  return write_sealed(path(file), OutputFile::Existing::Replace, all,
                      [&](size_t i, std::vector<std::byte>& out) -> Status {
                        switch (static_cast<Part>(i)) {
                          case kIds:
                            out = bytes_of(answers.ids.to(at::kInt));
                            break;
                          case kLogP:
                            out = bytes_of(answers.log_p.to(at::kHalf));
                            break;
                          case kRest:
                            out = bytes_of(answers.rest);
                            break;
                          case kSettings:
                            out.resize(setting_.settings.size());
                            std::memcpy(out.data(), setting_.settings.data(), out.size());
                            break;
                        }
                        return {};
                      });
}

Status TeacherAnswers::open(uint64_t file) {
  if (opened_ && opened_file_ == file) {
    return {};
  }
  const std::string name = path(file);
  auto opened = open_sealed(name);
  if (!opened.ok()) {
    return opened.status().code() == Code::BadInput
               ? bad_input("{}; remove it, and it is written again", opened.status().message())
               : opened.status();
  }
  opened_ = opened.take();
  opened_file_ = file;
  const std::vector<TensorInfo> expected = infos(file);
  const std::vector<TensorInfo>& found = opened_->tensors();
  bool fits = found.size() > kSettings && found[kSettings].name == expected[kSettings].name &&
              found[kSettings].n_bytes() <= kMaxSettings;
  std::vector<std::byte> bytes;
  if (fits) {
    RWKV_TRY(opened_->read(kSettings, bytes));
    const std::string settings(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (settings != setting_.settings) {
      return usage_error(
          "{}: was written for a training with other settings ({}); use the same ones, or remove "
          "it",
          name, settings_difference(settings, setting_.settings));
    }
  }
  for (size_t i = 0; fits && i < kSettings; ++i) {
    fits = found[i].name == expected[i].name && found[i].dtype == expected[i].dtype &&
           found[i].shape == expected[i].shape;
  }
  return fits
             ? Status()
             : bad_input(
                   "{}: expected {} answers for each of {} tokens, found other tensors; remove it, "
                   "and it is written again",
                   name, setting_.top_k, expected[kRest].n_elements());
}

Result<TeacherAnswers> TeacherAnswers::prepare(const TrainJob& job, const TokenData& data) {
  const TrainOptions& options = job.options;
  Setting setting{.teacher = *job.teacher,
                  .folder = (fs::path(job.folder) / "teacher").string(),
                  .n_sequences = options.steps * options.batch,
                  .length = static_cast<int64_t>(options.length),
                  .top_k = static_cast<int64_t>(
                      std::min(options.teacher_top_k, job.student.model.config.n_vocab)),
                  .temperature = options.loss.head.temperature,
                  .precision = options.loss.head.precision,
                  .device = job.device,
                  .tokens = [&job, &data](uint64_t first, int64_t n) -> Result<at::Tensor> {
                    RWKV_ASSIGN(const Batch batch, data.sample(first, n, job.seed));
                    return batch.inputs;
                  }};
  setting.settings = fmt::format(
      "teacher: {} ({})\ndata: {:016x}\nseed: {}\nsequences: {} of {}, after '{}'\n"
      "answers: {} at {}, {}\n",
      job.teacher->source.path(), describe(job.teacher->model.config), data.fingerprint(), job.seed,
      setting.n_sequences, setting.length, options.start_after, setting.top_k, setting.temperature,
      options.wants_bf16 ? "bf16" : "fp32");
  TeacherAnswers answers(std::move(setting));
  std::error_code error;
  fs::create_directories(answers.setting_.folder, error);
  if (error) {
    return failed("{}: cannot make the folder: {}", answers.setting_.folder, error.message());
  }
  for (uint64_t file = 0; file < answers.n_files(); ++file) {
    if (!fs::exists(answers.path(file), error)) {
      RWKV_TRY(answers.write(file));
    }
    RWKV_TRY(answers.open(file));
    if (job.callbacks.on_preparing) {
      job.callbacks.on_preparing("teacher's answers", static_cast<double>(file + 1) /
                                                          static_cast<double>(answers.n_files()));
    }
  }
  return answers;
}

// Sequences of the open file, counted from its first.
Result<TopAnswers> TeacherAnswers::read_from_open(uint64_t first, uint64_t n) const {
  const int64_t rows = static_cast<int64_t>(n) * setting_.length;
  const auto part = [&](Part which, int64_t cols, at::ScalarType type,
                        size_t width) -> Result<at::Tensor> {
    const auto size = static_cast<size_t>(setting_.length * cols) * width;
    std::vector<std::byte> bytes(size * n);
    RWKV_TRY(opened_->read_range(which, first * size, bytes));
    return at::from_blob(bytes.data(), {rows, cols}, type).clone();
  };
  TopAnswers answers;
  RWKV_ASSIGN(answers.ids, part(kIds, setting_.top_k, at::kInt, 4));
  RWKV_ASSIGN(answers.log_p, part(kLogP, setting_.top_k, at::kHalf, 2));
  RWKV_ASSIGN(answers.rest, part(kRest, 1, at::kFloat, 4));
  answers.ids = answers.ids.to(at::kLong);
  answers.log_p = answers.log_p.to(at::kFloat);
  answers.rest = answers.rest.flatten();
  RWKV_TRY(
      check(opened_->path(), answers, static_cast<int64_t>(setting_.teacher.model.config.n_vocab)));
  return answers;
}

Result<TopAnswers> TeacherAnswers::read(uint64_t first, int64_t n) {
  std::vector<TopAnswers> parts;
  for (uint64_t at = first; at < first + static_cast<uint64_t>(n);) {
    const uint64_t file = at / per_file();
    const uint64_t end = std::min(first + static_cast<uint64_t>(n), (file + 1) * per_file());
    RWKV_TRY(open(file));
    RWKV_ASSIGN(TopAnswers part, read_from_open(at - file * per_file(), end - at));
    parts.push_back(std::move(part));
    at = end;
  }
  if (parts.size() == 1) {
    return parts.front();
  }
  std::vector<at::Tensor> ids, log_p, rest;
  for (const TopAnswers& part : parts) {
    ids.push_back(part.ids);
    log_p.push_back(part.log_p);
    rest.push_back(part.rest);
  }
  return TopAnswers{at::cat(ids, 0), at::cat(log_p, 0), at::cat(rest, 0)};
}

}  // namespace rwkv::press
