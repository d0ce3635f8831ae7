#include "compressor/evaluate/cloze.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "compressor/checkpoint/open.h"
#include "formats/base/file.h"
#include "runtime/text/scoring.h"

namespace rwkv::press {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 32;
constexpr size_t kMaxComplaints = 5;
constexpr size_t kMaxChunk = 32;  // tokens per pass

// The string under `key`, nullptr if it is missing or of another type.
const std::string* string_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : found->get_ptr<const std::string*>();
}

Result<ClozeDocument> parse_document(std::string_view line) {
  const Json object = Json::parse(line.begin(), line.end(), nullptr, false);
  if (!object.is_object()) {
    return bad_input("is not a JSON object");
  }
  const std::string* text = string_at(object, "text");
  if (!text) {
    return bad_input("has no string under 'text'");
  }
  ClozeDocument document;
  if (object.contains("kind")) {
    const std::string* kind = string_at(object, "kind");
    if (!kind) {
      return bad_input("has a 'kind' that is not a string");
    }
    document.kind = *kind;
  }
  const size_t space = text->rfind(' ');
  if (space == std::string::npos || space == 0) {
    return bad_input("has a text with nothing before its last word");
  }
  if (space + 1 == text->size()) {
    return bad_input("has a text that ends in a space, not in a word");
  }
  document.context = text->substr(0, space);
  document.target = text->substr(space);
  return document;
}

// A document as the model reads it.
struct Tokens {
  std::vector<int32_t> context, target;
};

// Ids lie within the vocabulary: the runtime opens no file whose tokenizer has others.
Result<Tokens> split(const edge::Model& model, const ClozeDocument& document) {
  Tokens tokens;
  RWKV_TRY(model.tokenizer()->encode(document.context, tokens.context));
  RWKV_TRY(model.tokenizer()->encode(document.target, tokens.target));
  if (tokens.context.empty() || tokens.target.empty()) {
    return bad_input("the model's vocabulary makes no token of the context or of the last word");
  }
  return tokens;
}

struct Answer {
  bool is_right = true;
  double nats = 0.0;
};

// `state` and `logits` [n_vocab] are scratch.
Result<Answer> ask(edge::Evaluator& evaluator, const Tokens& tokens, edge::State& state,
                   std::span<float> logits) {
  state.reset();
  Answer answer;
  std::span<const int32_t> next = tokens.context;
  for (const int32_t& token : tokens.target) {
    RWKV_TRY(evaluator.forward(next, state, edge::Logits::Last, logits));
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    const double nats = edge::negative_log_likelihood(logits, token);
    if (!std::isfinite(nats)) {
      return bad_input("the model's logits are not finite numbers");
    }
    answer.is_right = answer.is_right && best == token;
    answer.nats += nats;
    next = {&token, 1};
  }
  return answer;
}

}  // namespace

Result<ClozeSet> read_cloze(const std::string& path, uint64_t max_docs) {
  RWKV_ASSIGN(const std::string content, read_text_file(path, kMaxFileBytes));
  ClozeSet set;
  set.path = path;
  uint64_t number = 0;
  for (size_t begin = 0; begin < content.size();) {
    if (max_docs > 0 && set.documents.size() == max_docs) {
      break;
    }
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view line = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
      continue;
    }
    auto document = parse_document(line);
    if (document.ok()) {
      document.value().line = number;
      set.documents.push_back(document.take());
      continue;
    }
    ++set.malformed;
    if (set.complaints.size() < kMaxComplaints) {
      set.complaints.push_back(
          fmt::format("{}: line {}: {}", path, number, document.status().message()));
    }
  }
  if (set.documents.empty() && set.malformed == 0) {
    return bad_input("{}: is empty; a JSON object with a 'text' is wanted on every line", path);
  }
  if (set.documents.empty()) {
    return bad_input("{}; nor is any other line a document", set.complaints.front());
  }
  return set;
}

double ClozeTally::accuracy() const {
  return static_cast<double>(right) / static_cast<double>(documents);
}
double ClozeTally::standard_error() const {
  return std::sqrt(accuracy() * (1.0 - accuracy()) / static_cast<double>(documents));
}
Interval ClozeTally::interval() const {
  return wilson_interval(right, documents);
}
double ClozeResult::perplexity() const {
  return std::exp(nats / static_cast<double>(all.documents));
}

Status check_packed(const std::string& path) {
  RWKV_ASSIGN(const Checkpoint checkpoint, open_checkpoint(path));
  if (!checkpoint.is_packed) {
    return usage_error("{}: is a checkpoint ({}), a packed file is wanted; convert it first", path,
                       checkpoint.source->format());
  }
  return {};
}

Result<ClozeResult> evaluate_cloze(const std::string& path, const ClozeSet& set,
                                   const ClozeOptions& options) {
  RWKV_TRY(check_packed(path));
  RWKV_ASSIGN(const auto model, edge::Model::open(path));
  if (!model->tokenizer()) {
    return usage_error("{}: was packed without a vocabulary; convert it with --vocab", path);
  }
  return evaluate_cloze(model, path, set, options);
}

Result<ClozeResult> evaluate_cloze(const std::shared_ptr<const edge::Model>& model,
                                   const std::string& name, const ClozeSet& set,
                                   const ClozeOptions& options) {
  edge::Evaluator evaluator(model, {options.n_threads, kMaxChunk});
  edge::State state = model->empty_state();
  std::vector<float> logits(model->config().n_vocab);
  ClozeResult result;
  result.malformed = set.malformed;
  for (const ClozeDocument& document : set.documents) {
    const auto where = [&] {
      return fmt::format("{}: {}: line {}", name, set.path, document.line);
    };
    const auto tokens = split(*model, document);
    RWKV_TRY(tokens.status().in(where()));
    const auto answer = ask(evaluator, tokens.value(), state, logits);
    RWKV_TRY(answer.status().in(where()));
    const uint64_t right = answer.value().is_right ? 1 : 0;
    result.all.documents += 1;
    result.all.right += right;
    result.nats += answer.value().nats;
    if (!document.kind.empty()) {
      ClozeTally& tally = result.kinds[document.kind];
      tally.documents += 1;
      tally.right += right;
    }
    if (options.progress) {
      options.progress(result.all.documents);
    }
  }
  return result;
}

}  // namespace rwkv::press
