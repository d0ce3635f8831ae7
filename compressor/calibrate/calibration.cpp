#include "compressor/calibrate/calibration.h"

#include <algorithm>
#include <numeric>

#include "compressor/calibrate/statistics.h"
#include "compressor/numerics/random.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/file.h"
#include "formats/container/file_kind.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 32;
constexpr uint64_t kMaxLength = 1 << 16;

Status check(const CalibrationOptions& options) {
  if (options.samples < 1 || options.length < 2 || options.length > kMaxLength) {
    return usage_error(
        "calibration needs at least 1 sample of 2 to {} tokens; got {} samples of {} tokens",
        kMaxLength, options.samples, options.length);
  }
  return {};
}

// Which of n stretches: a seeded choice without repetition, in the order of the text.
std::vector<uint64_t> choose(uint64_t n_stretches, uint64_t wanted, uint64_t seed) {
  std::vector<uint64_t> all(n_stretches);
  std::iota(all.begin(), all.end(), uint64_t{0});
  Random random(seed);
  for (uint64_t i = 0; i < wanted; ++i) {
    std::swap(all[i], all[i + random.remainder(n_stretches - i)]);
  }
  all.resize(wanted);
  std::sort(all.begin(), all.end());
  return all;
}

Result<std::vector<int32_t>> tokenize_all(const CalibrationOptions& options,
                                          const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens;
  for (const std::string& path : options.texts) {
    RWKV_TRY(check_plain_text(path));
    RWKV_ASSIGN(const std::string text, read_text_file(path, kMaxTextBytes));
    if (text.empty()) {
      return usage_error("{}: the calibration text is empty", path);
    }
    RWKV_TRY(tokenizer.encode(text, tokens).in(path));
  }
  return tokens;
}

}  // namespace

Result<Calibration> sample_texts(const CalibrationOptions& options,
                                 const std::optional<Vocabulary>& vocabulary,
                                 const ModelConfig& config) {
  RWKV_TRY(check(options));
  if (options.texts.empty()) {
    return usage_error(
        "this recipe learns from text; name a text file with --calibration, or a statistics file "
        "with --stats");
  }
  if (!vocabulary) {
    return usage_error(
        "calibration text cannot be split into tokens without a vocabulary; name one with --vocab");
  }
  RWKV_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, make_tokenizer(*vocabulary));
  RWKV_ASSIGN(const std::vector<int32_t> all, tokenize_all(options, *tokenizer));
  const uint64_t n_stretches = all.size() / options.length;
  if (n_stretches < options.samples) {
    return usage_error(
        "the calibration text has {} tokens; {} samples of {} tokens need {}; give more text or "
        "lower calibration.samples (--samples of rwkv-press calibrate)",
        all.size(), options.samples, options.length, options.samples * options.length);
  }
  const auto n_vocab = static_cast<int64_t>(config.n_vocab);
  Calibration calibration;
  calibration.seed = options.seed;
  calibration.frequencies = at::zeros({n_vocab}, at::kFloat);
  float* counts = calibration.frequencies.data_ptr<float>();
  for (const int32_t token : all) {
    counts[token] += 1.0f;
  }
  calibration.tokens = at::empty(
      {static_cast<int64_t>(options.samples), static_cast<int64_t>(options.length)}, at::kLong);
  int64_t* out = calibration.tokens.data_ptr<int64_t>();
  for (const uint64_t stretch : choose(n_stretches, options.samples, options.seed)) {
    const auto from = all.begin() + static_cast<std::ptrdiff_t>(stretch * options.length);
    out = std::copy(from, from + static_cast<std::ptrdiff_t>(options.length), out);
  }
  return calibration;
}

Result<Calibration> load_calibration(const CalibrationOptions& options,
                                     const std::optional<Vocabulary>& vocabulary,
                                     const ModelConfig& config, const std::string& checkpoint) {
  if (options.statistics.empty()) {
    return sample_texts(options, vocabulary, config);
  }
  if (!options.texts.empty()) {
    return usage_error("--calibration and --stats exclude each other: statistics hold their text");
  }
  RWKV_ASSIGN(const auto statistics, Statistics::open(options.statistics, config, checkpoint));
  return statistics->calibration();
}

}  // namespace rwkv::press
