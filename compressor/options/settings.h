// Settings in YAML, each stated once: one statement gives the key, the default (the value of the
// variable that it is bound to), the range, the help, reading and printing.
//
//   Settings settings_of(Options& options) {
//     return {"refit", {setting::count("rounds", options.rounds, 1, 1000, "of the diagonal")}};
//   }
//
// Bound to a fresh Options it lists the defaults, read() sets the values, emit() prints them.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"
#include "formats/codec/codec.h"

namespace rwkv::press {

/// " (line 3)" where YAML knows it, else nothing.
std::string at_line(const YAML::Node& node);

/// Usage unless `map` is a map whose keys are all among `known`; names the nearest. `owner` is what
/// the keys belong to: "budget"; empty at the top.
Status check_keys(const YAML::Node& map, const std::string& owner,
                  std::span<const std::string_view> known);

/// "; did you mean 'low_rank.factor'?": what was meant by `key` of `owner`, by a list of words that
/// people use for settings, else by the nearest of `known`, else all of them.
std::string hint(const std::string& owner, const std::string& key,
                 std::span<const std::string_view> known);

/// Usage: "OWNER.KEY: expected EXPECTED, got 'VALUE'".
Status wrong_value(const std::string& name, const std::string& expected, const YAML::Node& value);

/// One setting, bound to the variable that holds its value.
struct Setting {
  std::string_view key;
  std::string_view help;
  std::string expected;  ///< "an integer from 1 to 8"
  /// Sets the variable. `name` is the key with its owner, for messages.
  std::function<Status(const YAML::Node& value, const std::string& name)> read;
  /// Prints the value alone.
  std::function<void(YAML::Emitter& out)> print;
  bool is_shown = true;  ///< emit() leaves out what is not
  /// The values allowed, as a JSON schema: {"type": "integer", "minimum": 1}.
  std::string schema = "{}";

  /// The same, printed only if `shown`: what is off, or follows from others, is left out.
  Setting shown_if(bool shown) const;
  /// The same, printed as `text`.
  Setting printed_as(const std::string& text) const;
  /// The value in YAML.
  std::string value_text() const;
};

// How settings are stated.
namespace setting {

/// An integer from `least` to `most`.
Setting count(std::string_view key, uint64_t& value, uint64_t least, uint64_t most,
              std::string_view help);
/// A number from `least` to `most`.
Setting real(std::string_view key, double& value, double least, double most, std::string_view help);
/// true or false.
Setting flag(std::string_view key, bool& value, std::string_view help);
/// One of `names`, which must outlive it; the value is its index, or the name itself.
Setting choice(std::string_view key, size_t& value, std::span<const char* const> names,
               std::string_view help);
Setting choice(std::string_view key, std::string& value, std::span<const char* const> names,
               std::string_view help);
Setting text(std::string_view key, std::string& value, std::string_view help);
/// The same, printed in quotes always.
Setting quoted_text(std::string_view key, std::string& value, std::string_view help);
/// Printed in one line: [a, b].
Setting texts(std::string_view key, std::vector<std::string>& value, std::string_view help);
/// A number of bytes above 0, such as 200MB.
Setting bytes(std::string_view key, uint64_t& value, std::string_view help);
/// A codec that a recipe may name.
Setting codec(std::string_view key, Codec& value, std::string_view help);

}  // namespace setting

/// What overrides a setting for the names that match a glob.
template <typename Value>
struct Override {
  std::string match;
  Value value{};
};
/// A list of {match: GLOB, KEY: VALUE}, left out if it is empty. `make` binds KEY to a value, as
/// the functions above do.
namespace setting {
template <typename Value>
Setting overrides(std::string_view key, std::vector<Override<Value>>& list,
                  const std::function<Setting(Value&)>& make, std::string_view help);
}  // namespace setting

/// The settings of one owner: a stage, a training, a budget.
class Settings {
 public:
  Settings(std::string owner, std::vector<Setting> settings)
      : owner_(std::move(owner)), settings_(std::move(settings)) {}

  std::vector<std::string_view> keys() const;
  std::span<const Setting> list() const { return settings_; }
  /// Takes the values that `map` has; the others stay as they are. Usage for anything but a map,
  /// for keys that are not known, with the nearest, and for values out of range.
  Status read(const YAML::Node& map) const;
  /// A map of what is in force. `flow`: in one line.
  void emit(YAML::Emitter& out, bool flow = false) const;

 private:
  std::string owner_;
  std::vector<Setting> settings_;
};

// Of overrides(), which is a template.
std::string schema_of_overrides(const Setting& setting);
Status read_override(const YAML::Node& entry, const std::string& name, const Setting& setting,
                     std::string& match);
void emit_override(YAML::Emitter& out, const std::string& match, const Setting& setting);

template <typename Value>
Setting setting::overrides(std::string_view key, std::vector<Override<Value>>& list,
                           const std::function<Setting(Value&)>& make, std::string_view help) {
  Setting setting{key, help, "", {}, {}};
  Value unused{};
  const Setting inner = make(unused);
  setting.expected = fmt::format("a list of {{match: GLOB, {}: VALUE}}", inner.key);
  setting.schema = schema_of_overrides(inner);
  setting.read = [&list, make, expected = setting.expected](const YAML::Node& value,
                                                            const std::string& name) -> Status {
    if (!value.IsSequence()) {
      return wrong_value(name, expected, value);
    }
    list.clear();
    for (const YAML::Node& entry : value) {
      Override<Value>& added = list.emplace_back();
      RWKV_TRY(read_override(entry, name, make(added.value), added.match));
    }
    return {};
  };
  setting.print = [&list, make](YAML::Emitter& out) {
    out << YAML::BeginSeq;
    for (Override<Value>& override : list) {
      emit_override(out, override.match, make(override.value));
    }
    out << YAML::EndSeq;
  };
  return setting.shown_if(!list.empty());
}

}  // namespace rwkv::press
