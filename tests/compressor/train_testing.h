// Tiny models, texts and jobs to train in tests.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/train/trainer.h"
#include "tests/support/support.h"

namespace rwkv::test {

inline const std::vector<std::string> kTrainedArchs = {"v4", "v5.0", "v5.1", "v5.2",
                                                       "v6", "v7",   "x058", "x059"};

/// A model in memory, as initial_model() makes it.
struct TinyModel {
  std::unique_ptr<press::MemorySource> source;
  Identified model;
  press::ModelRef ref() const { return {*source, model}; }
};

/// Three layers of 64, one head.
TinyModel make_tiny(const std::string& arch, uint64_t seed = 1, uint64_t n_vocab = 256);

/// The same with all numbers but `name`'s, whose first becomes `value`.
TinyModel with_number(const TinyModel& model, const std::string& name, float value);

/// "abcdefghij" again and again.
std::string repetitive_text(size_t n);

/// Twelve steps over short sequences of the text `path`.
press::TrainOptions small_options(const std::string& path);

/// A training of 12 steps on `path`, in f32 and one pass per step, in a folder of its own.
press::TrainJob make_job(const TinyModel& student, const std::string& path,
                         const std::string& folder);

/// One process.
std::unique_ptr<press::ProcessGroup> one_process();

/// Trains to the end, in one process.
press::Trained train_all(const press::TrainJob& job);

/// Whether both have the same parameters, bit for bit.
bool same_parameters(const press::Trained& a, const press::Trained& b);

/// Ends a training after step `last`; keeps the reports if requested.
press::TrainCallbacks stop_after(uint64_t last, std::vector<press::StepReport>* reports = nullptr);

}  // namespace rwkv::test
