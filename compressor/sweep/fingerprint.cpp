#include "compressor/sweep/fingerprint.h"

#include "compressor/checkpoint/checkpoint_files.h"
#include "formats/base/checksum.h"

namespace rwkv::press {
namespace {

std::string hash_of(const std::string& text) {
  return fmt::format("{:016x}", xxh64(std::as_bytes(std::span(text))));
}

// Only contents: names of folders differ between machines.
Result<std::string> hash_of_files(const std::vector<std::string>& paths) {
  std::string all;
  for (const std::string& path : paths) {
    RWKV_ASSIGN(const uint64_t hash, file_xxh64(path));
    all += fmt::format("{:016x} ", hash);
  }
  return all;
}

std::string hash_of(const std::optional<Vocabulary>& vocabulary) {
  if (!vocabulary) {
    return "none";
  }
  std::string text =
      fmt::format("{} {}\n", tokenizer_kind_name(vocabulary->kind), vocabulary->normalize_nfc);
  for (const std::string& token : vocabulary->tokens) {
    text += fmt::format("{} {}\n", token.size(), token);
  }
  for (const std::string& merge : vocabulary->merges) {
    text += merge + "\n";
  }
  text += fmt::format("{}", fmt::join(vocabulary->added, " "));
  return hash_of(text);
}

}  // namespace

Result<Fingerprint> Fingerprint::take(const SweepInputs& inputs, const SweepEvaluation& evaluation,
                                      const std::optional<Vocabulary>& vocabulary,
                                      const std::string& tool_version) {
  Fingerprint result;
  RWKV_ASSIGN(const uint64_t hash, checkpoint_xxh64(inputs.checkpoint));
  std::string checkpoint = fmt::format("{:016x} ", hash);
  if (inputs.group_norm_eps) {
    checkpoint += fmt::format("eps {} ", *inputs.group_norm_eps);
  }
  result.model_ = hash_of(fmt::format("{} {} {}", tool_version, checkpoint, hash_of(vocabulary)));
  RWKV_ASSIGN(const std::string texts, hash_of_files(evaluation.files.texts));
  RWKV_ASSIGN(const std::string clozes, hash_of_files(evaluation.files.clozes));
  RWKV_ASSIGN(const std::string choices, hash_of_files(evaluation.files.choices));
  // Speed is not included: it is measured separately and stored in its own file.
  result.evaluation_ =
      fmt::format("{}|{}|{}|{} {} {} {}", texts, clozes, choices, evaluation.files.max_docs,
                  evaluation.max_tokens, evaluation.reference, evaluation.memory);
  RWKV_ASSIGN(result.calibration_, hash_of_files(inputs.calibration));
  if (!inputs.statistics.empty()) {
    RWKV_ASSIGN(const std::string statistics, hash_of_files({inputs.statistics}));
    result.calibration_ += "statistics " + statistics;
  }
  RWKV_ASSIGN(result.training_, hash_of_files(inputs.train_data));
  result.common_ = hash_of(fmt::format("{}\n{}\n{}\n{}", result.model_, result.evaluation_,
                                       result.calibration_, result.training_));
  return result;
}

std::string Fingerprint::of(const SweepPoint& point) const {
  return hash_of(fmt::format("{}\n{}\n{}\n{}\n{}", model_, evaluation_,
                             point.learns_from.empty() ? "" : calibration_,
                             point.trained ? training_ : "", point.recipe + point.device));
}

std::string Fingerprint::of(const SweepPlan& plan, const SweepEvaluation& evaluation) const {
  std::string text = fmt::format("{} {}\n", common_, evaluation.speed);
  for (const SweepPoint& point : plan.points) {
    text += fmt::format("{} {}\n", of(point), point.label);
  }
  for (const SweepPlan::Bar& bar : plan.ablation) {
    text += fmt::format("{} {}\n", bar.point, bar.label);
  }
  return hash_of(text);
}

}  // namespace rwkv::press
