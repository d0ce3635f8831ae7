// Texts whose last word the model must predict, as in LAMBADA, read from a file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compressor/evaluate/lines.h"
#include "compressor/evaluate/sampling.h"
#include "formats/base/status.h"

namespace rwkv::press {

struct ClozeDocument {
  std::string context;  ///< not empty
  std::string target;   ///< a space and the last word
  std::string kind;     ///< empty: none
  uint64_t line = 0;    ///< in its file, from 1
};

/// What a file of documents holds.
struct ClozeSet {
  std::string path;
  std::vector<ClozeDocument> documents;  ///< that were drawn, in the order of the file
  uint64_t available = 0;                ///< documents in the file
  Skipped malformed;                     ///< lines
};

/// A document from a JSON object with a string "text" and, if results are to be grouped by it, a
/// string "kind"; other keys are ignored. A space is U+0020 and nothing else. BadInput: what is no
/// such object, a text without a space, with nothing before or after its last space.
Result<ClozeDocument> parse_cloze_line(std::string_view line);

/// Reads a file of such lines (lines.h), malformed ones skipped and counted, and draws documents,
/// which are all that is kept. BadInput if there is none; Usage if they take too much memory.
Result<ClozeSet> read_cloze(const std::string& path, const Sampling& sampling);

}  // namespace rwkv::press
