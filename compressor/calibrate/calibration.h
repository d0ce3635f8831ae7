// The input of stages that learn from text: sampled token sequences, and how often each token
// occurs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/arch/model_config.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv::press {

struct CalibrationOptions {
  std::vector<std::string> texts;  ///< files
  std::string statistics;          ///< a statistics file instead (`rwkv-press calibrate`)
  uint64_t samples = 64;           ///< sequences
  uint64_t length = 256;           ///< tokens of each
  uint64_t seed = 0;               ///< which stretches of the text are taken
};

class Statistics;

struct Calibration {
  at::Tensor tokens;       ///< int64 [samples, length]
  at::Tensor frequencies;  ///< f32 [n_vocab], counts over all of the text
  uint64_t seed = 0;
  std::shared_ptr<const Statistics> statistics;  ///< if they came from a file
};

/// Tokenises the texts and takes `samples` stretches of `length` tokens that do not overlap, chosen
/// by the seed and kept in the order of the text. Usage if there is no text, no vocabulary or too
/// little text, BadInput if a text cannot be read.
Result<Calibration> sample_texts(const CalibrationOptions& options,
                                 const std::optional<Vocabulary>& vocabulary,
                                 const ModelConfig& config);

/// sample_texts, or the content of the statistics file; `checkpoint` is the model's file, to which
/// the statistics must belong.
Result<Calibration> load_calibration(const CalibrationOptions& options,
                                     const std::optional<Vocabulary>& vocabulary,
                                     const ModelConfig& config, const std::string& checkpoint);

}  // namespace rwkv::press
