#include "compressor/options/yaml.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <vector>

#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

constexpr size_t kMostLevels = 64;
constexpr size_t kMostValues = 100'000;
constexpr size_t kMostBytes = 4 << 20;
constexpr const char* kMergeKey = "<<";
constexpr size_t kShownKey = 100;

// Looks at a document before a tree is made of it, and keeps the first thing to refuse. Parsing
// ends there: without that, a list of aliases to lists of aliases would be read to its end.
class Inspector final : public YAML::EventHandler {
 public:
  /// Ends the parsing, once `status` says why.
  struct Stop {};

  const Status& status() const { return status_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++n_documents_ > 1) {
      refuse(
          usage_error("expected one document, found another (line {}); remove it", mark.line + 1));
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    begin(mark, anchor, "~");
    end();
  }
  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                const std::string& value) override {
    begin(mark, anchor, value);
    end();
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    begin(mark, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    begin(mark, anchor);
    open_.back().is_map = true;
  }
  void OnMapEnd() override { end(); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      refuse(
          usage_error("an alias stands in what it means (line {}); write it out", mark.line + 1));
    }
    const Value& meant = found->second;
    if (meant.has_key_text) {
      begin(mark, 0, meant.key_text);
    } else {
      begin(mark, 0);
    }
    open_.back().n_values = meant.n_values;
    open_.back().n_levels = meant.n_levels;
    open_.back().n_bytes = meant.n_bytes;
    check_size(mark);
    end();
  }

 private:
  // A value, with everything in it once it is complete.
  struct Value {
    size_t n_values = 1;
    size_t n_levels = 1;
    size_t n_bytes = 0;
    bool has_key_text = false;
    std::string key_text;  ///< of what an alias may refer to
    YAML::anchor_t anchor = 0;
    bool is_map = false;
    bool expects_value = false;       ///< of the last key
    std::map<std::string, int> keys;  ///< with their lines
  };

  [[noreturn]] void refuse(Status status) {
    status_ = std::move(status);
    throw Stop();
  }

  void check_size(const YAML::Mark& mark) {
    size_t n_values = 0;
    size_t n_bytes = 0;
    for (const Value& value : open_) {
      n_values += value.n_values;
      n_bytes += value.n_bytes;
    }
    const size_t n_levels = open_.size() - 1 + open_.back().n_levels;
    if (n_levels > kMostLevels) {
      refuse(usage_error("expected at most {} levels, found more (line {})", kMostLevels,
                         mark.line + 1));
    }
    if (n_values > kMostValues || n_bytes > kMostBytes) {
      refuse(usage_error(
          "expected at most {} values and {} bytes with aliases written out, found more (line {})",
          kMostValues, kMostBytes, mark.line + 1));
    }
  }

  void check_key(const YAML::Mark& mark, const std::string& key) {
    const int line = mark.line + 1;
    if (key == kMergeKey) {
      refuse(usage_error("merge keys ('<<') are not read (line {}); write the keys out", line));
    }
    const auto [earlier, is_new] = open_.back().keys.try_emplace(key, line);
    if (!is_new) {
      refuse(usage_error("key '{}' occurs twice in a map (lines {} and {}); remove one",
                         printable(key, kShownKey), earlier->second, line));
    }
  }

  void begin(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (!open_.empty() && open_.back().is_map) {
      if (!open_.back().expects_value) {
        refuse(
            usage_error("expected a text as key, found a list or a map (line {})", mark.line + 1));
      }
      open_.back().expects_value = false;
    }
    open(mark, anchor);
  }

  void begin(const YAML::Mark& mark, YAML::anchor_t anchor, const std::string& text) {
    if (!open_.empty() && open_.back().is_map) {
      if (!open_.back().expects_value) {
        check_key(mark, text);
      }
      open_.back().expects_value = !open_.back().expects_value;
    }
    open(mark, anchor);
    open_.back().has_key_text = true;
    open_.back().n_bytes = text.size();
    if (anchor != 0) {
      open_.back().key_text = text;
    }
  }

  void open(const YAML::Mark& mark, YAML::anchor_t anchor) {
    open_.emplace_back();
    open_.back().anchor = anchor;
    check_size(mark);
  }

  void end() {
    Value value = std::move(open_.back());
    open_.pop_back();
    if (!open_.empty()) {
      open_.back().n_values += value.n_values;
      open_.back().n_bytes += value.n_bytes;
      open_.back().n_levels = std::max(open_.back().n_levels, value.n_levels + 1);
    }
    if (value.anchor != 0) {
      value.keys.clear();
      anchors_[value.anchor] = std::move(value);
    }
  }

  Status status_;
  size_t n_documents_ = 0;
  std::vector<Value> open_;
  std::map<YAML::anchor_t, Value> anchors_;  ///< complete ones
};

Status inspect(const std::string& text) {
  std::istringstream input(text);
  YAML::Parser parser(input);
  Inspector inspector;
  try {
    while (parser.HandleNextDocument(inspector)) {
    }
  } catch (const Inspector::Stop&) {
    return inspector.status();
  }
  return {};
}

}  // namespace

Result<YAML::Node> load_yaml(const std::string& text) {
  RWKV_TRY(inspect(text));
  return YAML::Load(text);
}

}  // namespace rwkv::press
