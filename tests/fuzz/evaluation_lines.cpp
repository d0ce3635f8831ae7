// Any bytes as lines of files of questions: parsed or refused, and what parses holds what it
// promises.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "compressor/evaluate/choices_set.h"
#include "compressor/evaluate/cloze_set.h"

using namespace rwkv;

namespace {

void demand(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void try_cloze(std::string_view line) {
  const auto document = press::parse_cloze_line(line);
  demand(!document.ok() ||
         (!document.value().context.empty() && document.value().target.size() > 1 &&
          document.value().target.front() == ' '));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::vector<press::RequestKey> requests;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size() - 1);
    const std::string_view line = rest.substr(0, end + 1);
    rest.remove_prefix(end + 1);
    try_cloze(line);
    if (auto request = press::parse_choice_request(line); request.ok()) {
      demand(!request.value().choice.context.empty() &&
             !request.value().choice.continuation.empty());
      requests.push_back(request.value().key);
    }
  }
  const size_t n_requests = requests.size();
  press::Skipped incomplete;
  size_t n_choices = 0;
  for (const press::RequestGroup& group :
       press::group_requests(std::move(requests), "input", incomplete)) {
    demand(group.lines.size() >= 2 && group.label < group.lines.size());
    n_choices += group.lines.size();
  }
  demand(n_choices + incomplete.count <= n_requests);
  return 0;
}
