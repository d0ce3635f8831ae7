#include "compressor/evaluate/measure.h"

#include "compressor/checkpoint/open.h"
#include "formats/base/file.h"
#include "formats/container/file_kind.h"
#include "runtime/model/model.h"

namespace rwkv::press {
namespace {

using ModelPtr = std::shared_ptr<const edge::Model>;

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 32;

Result<ModelPtr> open_with_vocabulary(const std::string& path,
                                      const edge::MemoryOptions& memory = {}) {
  RWKV_ASSIGN(const Checkpoint checkpoint, open_checkpoint(path));
  if (!checkpoint.is_packed) {
    return usage_error("{}: is a checkpoint ({}); expected a packed file; convert it first", path,
                       checkpoint.source->format());
  }
  RWKV_ASSIGN(ModelPtr model, edge::Model::open(path, memory));
  if (!model->tokenizer()) {
    return usage_error("{}: was packed without a vocabulary; convert it with --vocab", path);
  }
  return model;
}

// Pieces have widths where they are streamed.
edge::MemoryOptions memory_for(const MeasureOptions& options) {
  edge::MemoryOptions memory;
  if (options.weight_bytes > 0 || options.most_bits > 0) {
    memory.mode = edge::MemoryMode::Streamed;
    memory.stream.weight_bytes = options.weight_bytes;
    memory.stream.most_bits = options.most_bits;
  }
  return memory;
}

Result<TextSet> read_text(const std::string& path) {
  TextSet set{path, {}};
  RWKV_TRY(check_plain_text(path));
  RWKV_ASSIGN(set.text, read_text_file(path, kMaxTextBytes));
  if (set.text.empty()) {
    return bad_input("{}: expected a text, found an empty file", path);
  }
  return set;
}

}  // namespace

Result<EvaluationSets> load_evaluation_sets(const EvaluationFiles& files) {
  EvaluationSets sets;
  if (files.texts.empty() && files.clozes.empty() && files.choices.empty()) {
    return usage_error("nothing to evaluate on; name a file with --text, --cloze or --choices");
  }
  const Sampling sampling{files.max_docs, files.seed};
  for (const std::string& path : files.texts) {
    RWKV_ASSIGN(TextSet set, read_text(path));
    sets.texts.push_back(std::move(set));
  }
  for (const std::string& path : files.clozes) {
    RWKV_ASSIGN(ClozeSet set, read_cloze(path, sampling));
    sets.clozes.push_back(std::move(set));
  }
  for (const std::string& path : files.choices) {
    RWKV_ASSIGN(ChoicesSet set, read_choices(path, sampling));
    sets.choices.push_back(std::move(set));
  }
  return sets;
}

Result<Measurement> measure(const std::string& packed, const EvaluationSets& sets,
                            const MeasureOptions& options) {
  const edge::MemoryOptions memory = memory_for(options);
  if (memory.mode && !(sets.clozes.empty() && sets.choices.empty())) {
    return usage_error("narrower widths are measured on texts alone; leave out the questions");
  }
  RWKV_ASSIGN(const ModelPtr model, open_with_vocabulary(packed, memory));
  Measurement measurement;
  if (memory.mode) {
    const edge::Widths& widths = model->weights().residency().widths;
    measurement.widths = {widths.bytes, widths.full_bytes, widths.loss};
  }
  for (const int32_t id : options.prefix) {
    if (id < 0 || static_cast<uint64_t>(id) >= model->config().n_vocab) {
      return usage_error("prefix token: expected an id below {}, found {}", model->config().n_vocab,
                         id);
    }
  }
  measurement.prefix = options.prefix;
  measurement.model = options.name.empty() ? packed : options.name;
  ModelPtr reference;
  if (!options.reference.empty()) {
    measurement.reference =
        options.reference_name.empty() ? options.reference : options.reference_name;
    RWKV_ASSIGN(reference, open_with_vocabulary(options.reference));
    RWKV_TRY(check_same_vocabulary(*model, *reference).in(measurement.model));
  }
  for (const TextSet& set : sets.texts) {
    const TextOptions text{options.n_threads, options.max_tokens,
                           [&](double share) { options.progress(set.path, share); },
                           options.prefix};
    auto score = score_text(model, reference, set, text);
    RWKV_TRY(score.status().in(measurement.model));
    measurement.texts.push_back({set.path, score.take()});
  }
  const auto questions = [&](const std::string& path, size_t n) {
    return QuestionOptions{options.n_threads,
                           [&options, path, n](uint64_t done) {
                             options.progress(path,
                                              static_cast<double>(done) / static_cast<double>(n));
                           },
                           options.prefix};
  };
  for (const ClozeSet& set : sets.clozes) {
    auto result = evaluate_cloze(model, set, questions(set.path, set.documents.size()));
    RWKV_TRY(result.status().in(measurement.model));
    measurement.clozes.push_back({set.path, set.available, set.malformed.count, result.take()});
  }
  for (const ChoicesSet& set : sets.choices) {
    auto result = evaluate_choices(model, set, questions(set.path, set.documents.size()));
    RWKV_TRY(result.status().in(measurement.model));
    measurement.choices.push_back(
        {set.path, set.available, set.malformed.count, set.incomplete.count, result.value()});
  }
  return measurement;
}

}  // namespace rwkv::press
