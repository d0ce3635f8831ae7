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

// Twice over the file: what there is, then what was drawn of it. Memory holds only that.
Result<ClozeSet> read_cloze(const std::string& path, const Sampling& sampling) {
  ClozeSet set;
  set.path = path;
  std::vector<uint64_t> lines;
  const auto find = [&](uint64_t number, std::string_view line) -> Status {
    RWKV_TRY(parse_cloze_line(line).status());
    lines.push_back(number);
    return {};
  };
  RWKV_TRY(read_lines(path, find, set.malformed));
  if (lines.empty()) {
    return bad_input("{}; no line is a document", set.malformed.complaints.front());
  }
  set.available = lines.size();
  keep_drawn(lines, sampling);
  RWKV_ASSIGN(KeptBytes kept, KeptBytes::of_file(path));
  set.documents.reserve(lines.size());
  const auto keep = [&](uint64_t number, std::string_view line) -> Status {
    RWKV_ASSIGN(ClozeDocument document, parse_cloze_line(line));
    document.line = number;
    RWKV_TRY(kept.add(sizeof(document) + document.context.capacity() + document.target.capacity() +
                      document.kind.capacity()));
    set.documents.push_back(std::move(document));
    return {};
  };
  RWKV_TRY(read_again(path, lines, keep));
  return set;
}

}  // namespace rwkv::press
