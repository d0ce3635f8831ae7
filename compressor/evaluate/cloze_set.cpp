#include "compressor/evaluate/cloze_set.h"

#include <nlohmann/json.hpp>

namespace rwkv::press {

Result<ClozeDocument> parse_cloze_line(std::string_view line) {
  RWKV_ASSIGN(const nlohmann::json object, parse_object(line));
  RWKV_ASSIGN(const std::string text, string_at(object, "text"));
  ClozeDocument document;
  if (object.contains("kind")) {
    RWKV_ASSIGN(document.kind, string_at(object, "kind"));
  }
  const size_t space = text.rfind(' ');
  if (space == std::string::npos || space == 0) {
    return bad_input("has a text with nothing before its last word");
  }
  if (space + 1 == text.size()) {
    return bad_input("has a text that ends in a space, not in a word");
  }
  document.context = text.substr(0, space);
  document.target = text.substr(space);
  return document;
}

Result<ClozeSet> read_cloze(const std::string& path, const Sampling& sampling) {
  ClozeSet set;
  set.path = path;
  const auto use = [&](uint64_t number, std::string_view line) -> Status {
    RWKV_ASSIGN(ClozeDocument document, parse_cloze_line(line));
    document.line = number;
    set.documents.push_back(std::move(document));
    return {};
  };
  RWKV_TRY(read_lines(path, use, set.malformed));
  if (set.documents.empty()) {
    return bad_input("{}; no line is a document", set.malformed.complaints.front());
  }
  set.available = set.documents.size();
  keep_drawn(set.documents, sampling);
  return set;
}

}  // namespace rwkv::press
