#include "compressor/evaluate/choices_set.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <tuple>

namespace rwkv::press {
namespace {

using Json = nlohmann::json;

// 0 if the line does not say.
uint64_t choices_named(const Json& object) {
  const auto document = object.find("doc");
  if (document == object.end() || !document->is_object()) {
    return 0;
  }
  const auto choices = document->find("choices");
  return choices != document->end() && choices->is_array() ? choices->size() : 0;
}

// What is wrong with the requests of one document, sorted by index.
Status check_whole(std::span<const ChoiceRequest> requests) {
  const ChoiceRequest& first = requests.front();
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].index < i) {
      return bad_input("has choice {} twice", requests[i].index);
    }
    if (requests[i].index > i) {
      return bad_input("has no choice {}", i);
    }
    if (requests[i].label != first.label) {
      return bad_input("has label {} and label {}", first.label, requests[i].label);
    }
  }
  const uint64_t n_wanted = first.n_choices > 0 ? first.n_choices : requests.size();
  if (requests.size() < 2 || requests.size() != n_wanted) {
    return bad_input("has {} choices; expected {}", requests.size(),
                     std::max<uint64_t>(n_wanted, 2));
  }
  if (first.label >= requests.size()) {
    return bad_input("has label {}, which is none of its {} choices", first.label, requests.size());
  }
  return {};
}

}  // namespace

Result<ChoiceRequest> parse_choice_request(std::string_view line) {
  RWKV_ASSIGN(const Json object, parse_object(line));
  const auto request = object.find("request");
  if (request == object.end() || !request->is_object()) {
    return bad_input("has no object under 'request'");
  }
  ChoiceRequest parsed;
  RWKV_ASSIGN(parsed.document, number_at(object, "doc_id"));
  RWKV_ASSIGN(parsed.index, number_at(object, "idx"));
  RWKV_ASSIGN(parsed.label, number_at(object, "label"));
  RWKV_ASSIGN(parsed.context, string_at(*request, "context"));
  RWKV_ASSIGN(parsed.continuation, string_at(*request, "continuation"));
  parsed.n_choices = choices_named(object);
  if (parsed.context.empty()) {
    return bad_input("has an empty context");
  }
  if (parsed.continuation.empty() || parsed.continuation == " ") {
    return bad_input("has an empty continuation");
  }
  return parsed;
}

std::vector<ChoiceDocument> group_requests(std::vector<ChoiceRequest> requests,
                                           const std::string& path, Skipped& incomplete) {
  std::sort(requests.begin(), requests.end(), [](const auto& a, const auto& b) {
    return std::tie(a.document, a.index, a.line) < std::tie(b.document, b.index, b.line);
  });
  std::vector<ChoiceDocument> documents;
  for (auto begin = requests.begin(); begin != requests.end();) {
    const auto end = std::find_if(begin, requests.end(),
                                  [&](const auto& r) { return r.document != begin->document; });
    ChoiceDocument document{begin->document, begin->line, begin->label, {}};
    const Status status = check_whole({begin, end});
    for (auto request = begin; request != end; ++request) {
      document.line = std::min(document.line, request->line);
      document.choices.push_back({std::move(request->context), std::move(request->continuation)});
    }
    if (status.ok()) {
      documents.push_back(std::move(document));
    } else {
      incomplete.add(fmt::format("{}: line {}: document {} {}", path, document.line, document.id,
                                 status.message()));
    }
    begin = end;
  }
  return documents;
}

Result<ChoicesSet> read_choices(const std::string& path, const Sampling& sampling) {
  ChoicesSet set;
  set.path = path;
  std::vector<ChoiceRequest> requests;
  const auto use = [&](uint64_t number, std::string_view line) -> Status {
    RWKV_ASSIGN(ChoiceRequest request, parse_choice_request(line));
    if (request.document < kFirstUnconditional) {
      request.line = number;
      requests.push_back(std::move(request));
    }
    return {};
  };
  RWKV_TRY(read_lines(path, use, set.malformed));
  set.documents = group_requests(std::move(requests), path, set.incomplete);
  if (set.documents.empty()) {
    const auto& complaints =
        set.incomplete.count > 0 ? set.incomplete.complaints : set.malformed.complaints;
    return complaints.empty()
               ? bad_input("{}: has only requests without a question (doc_id from {})", path,
                           kFirstUnconditional)
               : bad_input("{}; there is no complete document", complaints.front());
  }
  set.available = set.documents.size();
  keep_drawn(set.documents, sampling);
  return set;
}

}  // namespace rwkv::press
