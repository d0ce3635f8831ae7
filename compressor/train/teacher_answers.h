// A teacher's predictions in files, so that it need not be in memory while a student learns from
// them: for every token that a training will see, the likeliest answers with their
// log-probabilities and what is left for all others. Written once, a few sequences at a time, with
// one block of the teacher in memory.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "compressor/train/gradients.h"
#include "compressor/train/token_data.h"
#include "compressor/train/trainer.h"

namespace rwkv::press {

class TeacherAnswers {
 public:
  /// For all steps of a training on `data`, which must outlive it, as must the job: writes the
  /// files that are missing to JOB.FOLDER/teacher. BadInput names one that is damaged, Usage one of
  /// other settings.
  static Result<TeacherAnswers> prepare(const TrainJob& job, const TokenData& data);
  /// Of sequences [first, first + n), [n * length, k]. BadInput if a file holds anything but
  /// distinct tokens with probabilities that sum up to 1.
  Result<TopAnswers> read(uint64_t first, int64_t n);

 private:
  struct Setting {
    ModelRef teacher;
    std::string folder;         ///< created if missing
    std::string settings = {};  ///< all that decides which sequences there are
    uint64_t n_sequences = 0;
    int64_t length = 0;
    int64_t top_k = 0;  ///< at most the vocabulary
    double temperature = 1.0;
    Precision precision = Precision::F32;
    at::Device device = at::kCPU;  ///< of the computations; what is read and written is here
    /// The tokens of sequences [first, first + n), int64 [n, length].
    std::function<Result<at::Tensor>(uint64_t first, int64_t n)> tokens;
  };

  explicit TeacherAnswers(Setting setting) : setting_(std::move(setting)) {}
  uint64_t per_file() const;
  uint64_t n_files() const { return (setting_.n_sequences + per_file() - 1) / per_file(); }
  uint64_t size_of(uint64_t file) const;
  std::string path(uint64_t file) const;
  std::vector<TensorInfo> infos(uint64_t file) const;
  Result<TopAnswers> ask(uint64_t file) const;
  Status write(uint64_t file) const;
  Status open(uint64_t file);
  Result<TopAnswers> read_from_open(uint64_t first, uint64_t n) const;

  Setting setting_;
  std::shared_ptr<const TensorSource> opened_;
  uint64_t opened_file_ = 0;
};

}  // namespace rwkv::press
