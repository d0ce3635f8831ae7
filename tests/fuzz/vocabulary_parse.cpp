// Any bytes as a vocabulary file: parsed or refused, and what parses makes a tokenizer that works
// or is refused.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "formats/tokenizer/tokenizer.h"

using namespace rwkv;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  const auto vocabulary = parse_vocabulary(content, "input");
  if (!vocabulary.ok()) {
    return 0;
  }
  const auto tokenizer = make_tokenizer(vocabulary.value());
  if (!tokenizer.ok()) {
    return 0;
  }
  std::vector<int32_t> ids;
  if (tokenizer.value()->encode(content.substr(0, 4096), ids).ok()) {
    const auto text = decode(*tokenizer.value(), ids);
    // Only NFC, rules that split text, and words may change it.
    const Vocabulary& found = vocabulary.value();
    const bool may_change = found.normalize_nfc || found.add_prefix_space ||
                            !found.splits.empty() || found.kind == TokenizerKind::WordLevel;
    if (!text.ok() || (!may_change && text.value() != content.substr(0, 4096))) {
      std::abort();
    }
  }
  return 0;
}
