#include "compressor/evaluate/choices.h"

#include <algorithm>

#include "compressor/evaluate/likelihood.h"

namespace rwkv::press {
namespace {

// Which of a document's choices scores best, by each of the scores.
struct Picks {
  size_t raw = 0;
  size_t by_characters = 0;
  size_t by_bytes = 0;
};

std::string_view answer_of(const Choice& choice) {
  const std::string_view text = choice.continuation;
  return text.front() == ' ' ? text.substr(1) : text;
}

// Code points; JSON's strings are valid UTF-8.
size_t n_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
  }));
}

size_t smallest(const std::vector<double>& scores) {
  return static_cast<size_t>(std::min_element(scores.begin(), scores.end()) - scores.begin());
}

Result<Picks> answer(const ChoiceDocument& document, ContinuationScorer& scorer) {
  std::vector<double> raw, by_characters, by_bytes;
  const std::string* context = nullptr;
  for (const Choice& choice : document.choices) {
    if (!context || *context != choice.context) {
      RWKV_TRY(scorer.read(choice.context));
      context = &choice.context;
    }
    RWKV_ASSIGN(const Likelihood likelihood, scorer.score(choice.continuation));
    const std::string_view text = answer_of(choice);
    raw.push_back(likelihood.nats);
    by_characters.push_back(likelihood.nats / static_cast<double>(n_characters(text)));
    by_bytes.push_back(likelihood.nats / static_cast<double>(text.size()));
  }
  return Picks{smallest(raw), smallest(by_characters), smallest(by_bytes)};
}

}  // namespace

Result<ChoicesResult> evaluate_choices(const std::shared_ptr<const edge::Model>& model,
                                       const ChoicesSet& set, const QuestionOptions& options) {
  std::vector<Picks> picks(set.documents.size());
  const auto ask = [&](size_t i, ContinuationScorer& scorer) -> Status {
    const ChoiceDocument& document = set.documents[i];
    const auto picked = answer(document, scorer);
    RWKV_TRY(picked.status().in(
        fmt::format("{}: line {}: document {}", set.path, document.line, document.id)));
    picks[i] = picked.value();
    return {};
  };
  RWKV_TRY(each_document(model, options, picks.size(), ask));
  ChoicesResult result;
  for (size_t i = 0; i < picks.size(); ++i) {
    const uint64_t label = set.documents[i].label;
    result.acc.add(picks[i].raw == label);
    result.acc_norm.add(picks[i].by_characters == label);
    result.acc_bytes.add(picks[i].by_bytes == label);
  }
  return result;
}

}  // namespace rwkv::press
