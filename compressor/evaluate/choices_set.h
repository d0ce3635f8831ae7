// Multiple choice: documents of a question and its answers, read from files of requests, one for
// every answer, as evaluation harnesses write them out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compressor/evaluate/lines.h"
#include "compressor/evaluate/sampling.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// Which choice of which document a line asks for.
struct RequestKey {
  uint64_t document = 0;
  uint64_t index = 0;      ///< of this choice
  uint64_t label = 0;      ///< index of the right one
  uint64_t n_choices = 0;  ///< of the document; 0: not said
  uint64_t line = 0;       ///< in its file, from 1
};

/// How likely is `continuation` after `context`?
struct Choice {
  std::string context;       ///< not empty
  std::string continuation;  ///< with what is not its leading space, not empty
};

/// One line.
struct ChoiceRequest {
  RequestKey key;
  Choice choice;
};

/// The requests of one document.
struct RequestGroup {
  uint64_t document = 0;
  uint64_t label = 0;
  std::vector<uint64_t> lines;  ///< of its choices, at least two, by index
};

struct ChoiceDocument {
  uint64_t id = 0;
  uint64_t line = 0;  ///< of its first request
  uint64_t label = 0;
  std::vector<Choice> choices;  ///< at least two
};

struct ChoicesSet {
  std::string path;
  std::vector<ChoiceDocument> documents;  ///< that were drawn, by id
  uint64_t available = 0;                 ///< whole documents in the file
  Skipped malformed;                      ///< lines
  Skipped incomplete;                     ///< documents
};

/// Ids from here on ask for answers without their questions, for another kind of score; the files
/// put them after the others. They are ignored.
inline constexpr uint64_t kFirstUnconditional = 1000000;

/// A request from a JSON object with the integers "doc_id", "idx" and "label" and, under
/// "request", the strings "context" and "continuation". Where there is a list under "doc",
/// "choices", it says how many requests belong together. Other keys are ignored. BadInput if
/// anything is missing, of another type or empty.
Result<ChoiceRequest> parse_choice_request(std::string_view line);

/// Puts requests together, by document, lines by index. Documents with a choice missing or twice,
/// with fewer than two or another number than they say, with labels that differ or name no choice
/// are incomplete.
std::vector<RequestGroup> group_requests(std::vector<RequestKey> requests, const std::string& path,
                                         Skipped& incomplete);

/// Reads a file of such lines (lines.h), malformed ones skipped and counted, and draws documents,
/// which are all that is kept. BadInput if there is none; Usage if they take too much memory.
Result<ChoicesSet> read_choices(const std::string& path, const Sampling& sampling);

}  // namespace rwkv::press
