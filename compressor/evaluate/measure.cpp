#include "compressor/evaluate/measure.h"

#include "formats/base/file.h"
#include "runtime/model/model.h"

namespace rwkv::press {
namespace {

using ModelPtr = std::shared_ptr<const edge::Model>;

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 32;

Result<ModelPtr> open_with_vocabulary(const std::string& path) {
  RWKV_TRY(check_packed(path));
  RWKV_ASSIGN(ModelPtr model, edge::Model::open(path));
  if (!model->tokenizer()) {
    return usage_error("{}: was packed without a vocabulary; convert it with --vocab", path);
  }
  return model;
}

Result<TextSet> read_text(const std::string& path) {
  TextSet set{path, {}};
  RWKV_ASSIGN(set.text, read_text_file(path, kMaxTextBytes));
  if (set.text.empty()) {
    return bad_input("{}: is empty; a text is wanted", path);
  }
  return set;
}

}  // namespace

Result<EvaluationSets> load_evaluation_sets(const EvaluationFiles& files) {
  EvaluationSets sets;
  if (files.texts.empty() && files.clozes.empty()) {
    return usage_error("nothing to evaluate on; name a file with --text or --cloze");
  }
  for (const std::string& path : files.texts) {
    RWKV_ASSIGN(TextSet set, read_text(path));
    sets.texts.push_back(std::move(set));
  }
  for (const std::string& path : files.clozes) {
    RWKV_ASSIGN(ClozeSet set, read_cloze(path, files.max_docs));
    sets.clozes.push_back(std::move(set));
  }
  return sets;
}

Result<Measurement> measure(const std::string& packed, const EvaluationSets& sets,
                            const MeasureOptions& options) {
  RWKV_ASSIGN(const ModelPtr model, open_with_vocabulary(packed));
  Measurement measurement;
  measurement.model = options.name.empty() ? packed : options.name;
  measurement.reference = options.reference;
  ModelPtr reference;
  if (!options.reference.empty()) {
    RWKV_ASSIGN(reference, open_with_vocabulary(options.reference));
    RWKV_TRY(check_same_vocabulary(*model, *reference).in(measurement.model));
  }
  for (const TextSet& set : sets.texts) {
    const TextOptions text{options.n_threads, options.max_tokens,
                           [&](double share) { options.progress(set.path, share); }};
    auto score = score_text(model, reference, set, text);
    RWKV_TRY(score.status().in(measurement.model));
    measurement.texts.push_back({set.path, score.take()});
  }
  for (const ClozeSet& set : sets.clozes) {
    const auto n = static_cast<double>(set.documents.size());
    const ClozeOptions cloze{options.n_threads, [&](uint64_t done) {
                               options.progress(set.path, static_cast<double>(done) / n);
                             }};
    auto result = evaluate_cloze(model, measurement.model, set, cloze);
    RWKV_TRY(result.status());
    measurement.clozes.push_back({set.path, result.take()});
  }
  return measurement;
}

}  // namespace rwkv::press
