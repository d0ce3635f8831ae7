#include "compressor/planner/fit.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>

#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/threads.h"
#include "compressor/planner/estimate.h"
#include "compressor/planner/needs.h"
#include "formats/base/checksum.h"
#include "formats/base/output_file.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

// A folder for packed files that are measured and thrown away.
class ScratchFolder {
 public:
  static Result<std::unique_ptr<ScratchFolder>> create() {
    std::error_code error;
    std::string path = (fs::temp_directory_path(error) / "rwkv-press-plan-XXXXXX").string();
    if (error || ::mkdtemp(path.data()) == nullptr) {
      return failed("cannot make a folder for temporary files ('{}'); TMPDIR names another", path);
    }
    return std::unique_ptr<ScratchFolder>(new ScratchFolder(path));
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit ScratchFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

PlanRequest request_from(const Budget& budget, const Identified& model) {
  PlanRequest request;
  request.is_checked = is_checked(budget, model);
  request.resident = budget.resident;
  request.size = budget.size;
  // With any memory to spare, nothing is read on demand.
  if (budget.memory == "loaded" || (budget.memory == "any" && budget.resident == 0)) {
    request.mode = edge::MemoryMode::Loaded;
  } else if (budget.memory == "sparse") {
    request.mode = edge::MemoryMode::Sparse;
  } else if (budget.memory == "streamed") {
    request.mode = edge::MemoryMode::Streamed;
  }
  request.embedding_rows = budget.embedding_cache;
  request.min_speed = budget.min_speed;
  request.read_speed = static_cast<double>(budget.read_speed);
  return request;
}

// f16 is always there: it is what losses are measured against.
Ladder ladder_of(const Budget& budget) {
  if (budget.codecs.empty()) {
    return Ladder();
  }
  std::vector<Codec> codecs = {Codec::F16};
  for (const std::string& name : budget.codecs) {
    const Codec codec = find_codec(name)->codec;
    if (std::find(codecs.begin(), codecs.end(), codec) == codecs.end()) {
      codecs.push_back(codec);
    }
  }
  return Ladder(std::move(codecs));
}

RecipeFrame frame_of(const Recipe& recipe, const ModelConfig& config) {
  RecipeFrame frame = frame_for(config);
  frame.name = recipe.name;
  frame.seed = recipe.seed;
  frame.samples = recipe.calibration.samples;
  frame.length = recipe.calibration.length;
  return frame;
}

// Text for losses: the one that is named, else that part of the calibration text that stages do not
// learn from.
Result<at::Tensor> held_out_from(const FitOptions& options, const Recipe& recipe,
                                 const CalibrationOptions& calibration, const ModelConfig& config) {
  const uint64_t samples = recipe.budget->samples;
  if (options.text.empty()) {
    return held_out_samples(calibration, samples, options.vocabulary, config);
  }
  CalibrationOptions other = calibration;
  other.texts = {options.text};
  other.samples = samples;
  RWKV_ASSIGN(const Calibration sampled, sample_texts(other, options.vocabulary, config));
  return sampled.tokens;
}

uint64_t hash_of(const at::Tensor& tokens) {
  const at::Tensor flat = tokens.contiguous();
  return xxh64({reinterpret_cast<const std::byte*>(flat.data_ptr<int64_t>()),
                static_cast<size_t>(flat.numel()) * sizeof(int64_t)});
}

// What measured curves belong to.
Result<std::string> key_of(const PlanSubject& subject, const std::string& path, bool sparse,
                           bool speed) {
  RWKV_ASSIGN(const uint64_t checkpoint, checkpoint_xxh64(path));
  return fmt::format("kl-{:016x}-{:016x}-{:016x}-{}{}{}{}-{}", checkpoint,
                     hash_of(subject.calibration.tokens), hash_of(subject.held_out),
                     subject.frame.seed, sparse ? "-sparse" : "", speed ? "-speed" : "",
                     subject.has_pairs ? "" : "-dense", subject.ladder.describe());
}

using MakeCurves = std::function<Result<Curves>(const CurveOptions& how, Curves begun)>;

Result<Curves> curves_for(const FitOptions& options, const PlanSubject& subject, bool is_estimated,
                          const PlanRequest& request, const MakeCurves& make) {
  CurveOptions how;
  how.sparse = request.mode != edge::MemoryMode::Loaded;
  how.speed = request.min_speed > 0;
  if (options.curves.empty()) {
    return make(how, {});
  }
  RWKV_ASSIGN(std::string key, key_of(subject, options.path, how.sparse, how.speed));
  key = (is_estimated ? "estimates-" : "") + key;
  Curves begun;
  std::error_code ignored;
  if (fs::exists(options.curves, ignored)) {
    RWKV_ASSIGN(begun, read_curves(options.curves, key));
    RWKV_TRY(check_curves(begun, subject).in(options.curves));
  }
  RWKV_TRY(OutputFile::check(options.curves, OutputFile::Existing::Replace));
  how.save = [&](const Curves& curves) { return write_curves(options.curves, key, curves); };
  return make(how, std::move(begun));
}

Status plan_measured(const FitOptions& options, const PlanSubject& subject, int n_threads,
                     uint64_t rounds, FitReport& report) {
  // Products cut differently for other numbers of threads would make other plans.
  const SingleThread single;
  const LearntCodes learnt{
      .codecs = subject.ladder.rungs(), .n_threads = n_threads, .progress = [&](double share) {
        subject.progress("codes of matrices", share);
      }};
  RWKV_ASSIGN(const auto meter,
              LossMeter::create(subject.source, subject.model.config, subject.matrices,
                                subject.calibration.tokens, subject.held_out, learnt));
  const auto measure = [&](const CurveOptions& how, Curves begun) {
    return measure_curves(subject, *meter, how, std::move(begun));
  };
  RWKV_ASSIGN(const Curves curves, curves_for(options, subject, false, report.request, measure));
  RWKV_ASSIGN(report.plan, plan_for_budget(subject, *meter, curves, report.request, rounds));
  return {};
}

Status plan_estimated(const FitOptions& options, PlanSubject& subject, int n_threads,
                      FitReport& report) {
  const auto most = std::max<int64_t>(
      1, static_cast<int64_t>(estimated_tokens(subject.model)) / subject.held_out.size(1));
  subject.held_out =
      subject.held_out.narrow(0, 0, std::min(most, subject.held_out.size(0))).contiguous();
  // A speed is that of one thread.
  subject.n_threads = report.request.min_speed > 0 ? 1 : static_cast<unsigned>(n_threads);
  const auto estimate = [&](const CurveOptions& how, Curves begun) {
    return estimate_curves(subject, how, std::move(begun));
  };
  RWKV_ASSIGN(const Curves curves, curves_for(options, subject, true, report.request, estimate));
  report.samples = curves.samples;
  RWKV_ASSIGN(report.plan, plan_by_estimates(subject, curves, report.request));
  return {};
}

}  // namespace

Result<FitReport> fit_budget(const TensorSource& source, const Identified& model,
                             const Recipe& recipe, const FitOptions& options) {
  const int n_threads = at::get_num_threads();
  PlanSubject subject{.source = source, .model = model};
  auto matrices = planned_matrices(model);
  RWKV_TRY(matrices.status().in(options.path));
  subject.matrices = matrices.take();
  subject.ladder = ladder_of(*recipe.budget);
  subject.has_pairs = recipe.budget->pairs;
  subject.tool_version = options.tool_version;
  subject.frame = frame_of(recipe, model.config);
  subject.vocabulary = options.vocabulary;
  subject.progress = options.progress;
  RWKV_ASSIGN(subject.tokenizer_bytes, tokenizer_bytes(subject.vocabulary));
  FitReport report;
  report.request = request_from(*recipe.budget, model);
  RWKV_TRY(check_budget(subject, report.request));
  CalibrationOptions calibration = recipe.calibration;
  calibration.texts = options.calibration;
  RWKV_ASSIGN(subject.calibration, sample_texts(calibration, subject.vocabulary, model.config));
  RWKV_ASSIGN(subject.held_out, held_out_from(options, recipe, calibration, model.config));
  RWKV_ASSIGN(const auto scratch, ScratchFolder::create());
  subject.scratch_folder = scratch->path();
  subject.shared_folder = scratch->path();
  if (is_estimated(*recipe.budget, model)) {
    RWKV_TRY(plan_estimated(options, subject, n_threads, report));
  } else {
    RWKV_TRY(plan_measured(options, subject, n_threads, recipe.budget->rounds, report));
  }
  report.matrices = subject.matrices;
  report.model = fmt::format("{}: {}", options.path, describe(model.config));
  return report;
}

std::string summary(const FitReport& report) {
  const PlanReport& plan = report.plan;
  const auto bytes = [](const char* what, uint64_t measured, uint64_t limit, uint64_t predicted) {
    return limit == 0 ? fmt::format("{} bytes {}; ", measured, what)
                      : fmt::format("{} bytes of {} {} ({} predicted); ", measured, limit, what,
                                    predicted);
  };
  const ChoiceBytes& predicted = plan.planned.footprint;
  if (!plan.is_checked) {
    return fmt::format(
        "predicted, not measured: {} bytes resident, {} in the file, {:.5f} nats per token (dense "
        "{:.5f})",
        predicted.resident, predicted.file, plan.predicted_loss, plan.dense_loss);
  }
  return fmt::format(
      "{}{}{:.5f} nats per token ({:.5f} predicted, dense {:.5f})",
      bytes("resident", plan.measured.resident, report.request.resident, predicted.resident),
      bytes("in the file", plan.file_bytes, report.request.size, predicted.file),
      plan.measured.nats_per_token, plan.predicted_loss, plan.dense_loss);
}

}  // namespace rwkv::press
