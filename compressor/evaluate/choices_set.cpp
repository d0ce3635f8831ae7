#include "compressor/evaluate/choices_set.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <tuple>

namespace rwkv::press {
namespace {

using Json = nlohmann::json;

// Of a choice while its document is read: itself, and its place by line.
constexpr size_t kPlaceBytes = sizeof(Choice) + 64;

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
Status check_whole(std::span<const RequestKey> requests) {
  const RequestKey& first = requests.front();
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
  RWKV_ASSIGN(parsed.key.document, number_at(object, "doc_id"));
  RWKV_ASSIGN(parsed.key.index, number_at(object, "idx"));
  RWKV_ASSIGN(parsed.key.label, number_at(object, "label"));
  RWKV_ASSIGN(parsed.choice.context, string_at(*request, "context"));
  RWKV_ASSIGN(parsed.choice.continuation, string_at(*request, "continuation"));
  parsed.key.n_choices = choices_named(object);
  if (parsed.choice.context.empty()) {
    return bad_input("has an empty context");
  }
  if (parsed.choice.continuation.empty() || parsed.choice.continuation == " ") {
    return bad_input("has an empty continuation");
  }
  return parsed;
}

std::vector<RequestGroup> group_requests(std::vector<RequestKey> requests, const std::string& path,
                                         Skipped& incomplete) {
  std::sort(requests.begin(), requests.end(), [](const auto& a, const auto& b) {
    return std::tie(a.document, a.index, a.line) < std::tie(b.document, b.index, b.line);
  });
  std::vector<RequestGroup> groups;
  for (auto begin = requests.begin(); begin != requests.end();) {
    const auto end = std::find_if(begin, requests.end(),
                                  [&](const auto& r) { return r.document != begin->document; });
    const Status status = check_whole({begin, end});
    if (status.ok()) {
      RequestGroup& group = groups.emplace_back(RequestGroup{begin->document, begin->label, {}});
      group.lines.reserve(static_cast<size_t>(end - begin));
      std::transform(begin, end, std::back_inserter(group.lines),
                     [](const RequestKey& request) { return request.line; });
    } else {
      const auto first = std::min_element(
          begin, end, [](const auto& a, const auto& b) { return a.line < b.line; });
      incomplete.add(fmt::format("{}: line {}: document {} {}", path, first->line, begin->document,
                                 status.message()));
    }
    begin = end;
  }
  return groups;
}

namespace {

// Fills the documents of `groups` from the file.
Status read_drawn(const std::string& path, const std::vector<RequestGroup>& groups,
                  std::vector<ChoiceDocument>& documents) {
  RWKV_ASSIGN(KeptBytes kept, KeptBytes::of_file(path));
  std::map<uint64_t, Choice*> places;
  std::vector<uint64_t> wanted;
  documents.reserve(groups.size());
  for (const RequestGroup& group : groups) {
    RWKV_TRY(kept.add(sizeof(ChoiceDocument) + group.lines.size() * kPlaceBytes));
    const uint64_t first = *std::min_element(group.lines.begin(), group.lines.end());
    documents.push_back({group.document, first, group.label, {}});
    documents.back().choices.resize(group.lines.size());
    for (size_t i = 0; i < group.lines.size(); ++i) {
      places[group.lines[i]] = &documents.back().choices[i];
    }
  }
  for (const auto& [line, choice] : places) {
    wanted.push_back(line);
  }
  const auto keep = [&](uint64_t number, std::string_view line) -> Status {
    RWKV_ASSIGN(ChoiceRequest request, parse_choice_request(line));
    RWKV_TRY(kept.add(request.choice.context.capacity() + request.choice.continuation.capacity()));
    *places[number] = std::move(request.choice);
    return {};
  };
  return read_again(path, wanted, keep);
}

}  // namespace

// Twice over the file: which requests there are, then the texts of those that were drawn. Memory
// holds only these.
Result<ChoicesSet> read_choices(const std::string& path, const Sampling& sampling) {
  ChoicesSet set;
  set.path = path;
  std::vector<RequestKey> requests;
  const auto find = [&](uint64_t number, std::string_view line) -> Status {
    RWKV_ASSIGN(ChoiceRequest request, parse_choice_request(line));
    if (request.key.document < kFirstUnconditional) {
      request.key.line = number;
      requests.push_back(request.key);
    }
    return {};
  };
  RWKV_TRY(read_lines(path, find, set.malformed));
  std::vector<RequestGroup> groups = group_requests(std::move(requests), path, set.incomplete);
  if (groups.empty()) {
    const auto& complaints =
        set.incomplete.count > 0 ? set.incomplete.complaints : set.malformed.complaints;
    return complaints.empty()
               ? bad_input("{}: has only requests without a question (doc_id from {})", path,
                           kFirstUnconditional)
               : bad_input("{}; there is no complete document", complaints.front());
  }
  set.available = groups.size();
  keep_drawn(groups, sampling);
  RWKV_TRY(read_drawn(path, groups, set.documents));
  return set;
}

}  // namespace rwkv::press
