#include "compressor/options/settings.h"

#include <algorithm>
#include <charconv>

#include "compressor/options/other_names.h"
#include "formats/base/byte_size.h"
#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

template <typename Number>
bool parse(const YAML::Node& node, Number& value) {
  const std::string text = node.IsScalar() ? node.Scalar() : "";
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

// Of a setting whose value prints as YAML prints it.
template <typename Value>
Setting plain(std::string_view key, const Value& value, std::string_view help,
              std::string expected) {
  Setting setting{key, help, std::move(expected)};
  setting.print = [&value](YAML::Emitter& out) { out << value; };
  return setting;
}

// "a, b or c".
std::string listed(std::span<const char* const> names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : i + 1 == names.size() ? " or " : ", ", names[i]);
  }
  return text;
}

// The index of the name that `node` is, or a message with the nearest.
Result<size_t> find_name(const YAML::Node& node, std::span<const char* const> names,
                         const std::string& name) {
  const std::string found = node.IsScalar() ? node.Scalar() : "";
  const auto at = std::find(names.begin(), names.end(), found);
  if (at != names.end()) {
    return static_cast<size_t>(at - names.begin());
  }
  const std::vector<std::string_view> all(names.begin(), names.end());
  const std::string_view near = nearest(found, all);
  Status wrong = wrong_value(name, listed(names), node);
  return near.empty() ? wrong : usage_error("{}; did you mean '{}'?", wrong.message(), near);
}

// What a recipe may name, in the order of the list. That rows of a lut codec lie by themselves is
// the stage's choice, not the recipe's.
std::vector<const char*> codec_names() {
  std::vector<const char*> names;
  for (const CodecTraits& traits : codec_list()) {
    if (!traits.for_predictors && !(traits.lut && traits.in_rows == traits.codec)) {
      names.push_back(traits.name);
    }
  }
  return names;
}

// A schema that allows these names.
std::string one_of(std::span<const char* const> names) {
  std::string text;
  for (const char* name : names) {
    text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", name);
  }
  return fmt::format(R"({{"enum": [{}]}})", text);
}

// The codecs, and the other names of each.
std::vector<const char*> names_with_others(std::vector<const char*> names) {
  for (const char* name : std::vector<const char*>(names)) {
    for (const char* other : other_names(name)) {
      names.push_back(other);
    }
  }
  return names;
}

}  // namespace

std::string at_line(const YAML::Node& node) {
  return node.Mark().is_null() ? "" : fmt::format(" (line {})", node.Mark().line + 1);
}

Status check_keys(const YAML::Node& map, const std::string& owner,
                  std::span<const std::string_view> known) {
  const std::string prefix = owner.empty() ? "" : owner + ".";
  if (!map.IsMap()) {
    return usage_error("{}expected a map with the keys {}{}", owner.empty() ? "" : owner + ": ",
                       fmt::join(known, ", "), at_line(map));
  }
  for (const auto& pair : map) {
    const std::string key = pair.first.IsScalar() ? pair.first.Scalar() : "";
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return usage_error("unknown key '{}{}'{}{}", prefix, key, at_line(pair.first),
                         hint(owner, key, known));
    }
  }
  return {};
}

std::string hint(const std::string& owner, const std::string& key,
                 std::span<const std::string_view> known) {
  const std::string_view meant = meant_by(owner, key);
  return meant.empty() ? suggestion(key, known) : fmt::format("; did you mean '{}'?", meant);
}

Status wrong_value(const std::string& name, const std::string& expected, const YAML::Node& value) {
  if (!value.IsScalar()) {
    return usage_error("{}: expected {}, got a {}", name, expected,
                       value.IsMap()        ? "map"
                       : value.IsSequence() ? "list"
                                            : "missing value");
  }
  return usage_error("{}: expected {}, got '{}'", name, expected, value.Scalar());
}

Setting Setting::shown_if(bool shown) const {
  Setting copy = *this;
  copy.is_shown = shown;
  return copy;
}

Setting Setting::printed_as(const std::string& text) const {
  Setting copy = *this;
  copy.print = [text](YAML::Emitter& out) { out << text; };
  return copy;
}

std::string Setting::value_text() const {
  YAML::Emitter out;
  out.SetMapFormat(YAML::Flow);
  out.SetSeqFormat(YAML::Flow);
  print(out);
  return out.c_str();
}

namespace setting {

Setting count(std::string_view key, uint64_t& value, uint64_t least, uint64_t most,
              std::string_view help) {
  Setting setting =
      plain(key, value, help,
            most == UINT64_MAX ? fmt::format("an integer of at least {}", least)
                               : fmt::format("an integer from {} to {}", least, most));
  setting.schema =
      fmt::format(R"({{"type": "integer", "minimum": {}, "maximum": {}}})", least, most);
  setting.read = [&value, least, most, expected = setting.expected](
                     const YAML::Node& node, const std::string& name) -> Status {
    uint64_t found = 0;
    if (!parse(node, found) || found < least || found > most) {
      return wrong_value(name, expected, node);
    }
    value = found;
    return {};
  };
  return setting;
}

Setting real(std::string_view key, double& value, double least, double most,
             std::string_view help) {
  Setting setting = plain(key, value, help, fmt::format("a number from {} to {}", least, most));
  // To YAML 1.1, 1e-3 is a text.
  setting.schema = fmt::format(R"({{"anyOf": [{{"type": "number", "minimum": {}, "maximum": {}}}, )"
                               R"({{"type": "string", "pattern": "^[0-9.]+[eE][-+]?[0-9]+$"}}]}})",
                               least, most);
  setting.read = [&value, least, most, expected = setting.expected](
                     const YAML::Node& node, const std::string& name) -> Status {
    double found = 0;
    if (!parse(node, found) || !(found >= least && found <= most)) {
      return wrong_value(name, expected, node);
    }
    value = found;
    return {};
  };
  return setting;
}

Setting flag(std::string_view key, bool& value, std::string_view help) {
  Setting setting = plain(key, value, help, "true or false");
  setting.schema = R"({"type": "boolean"})";
  setting.read = [&value](const YAML::Node& node, const std::string& name) -> Status {
    const std::string found = node.IsScalar() ? node.Scalar() : "";
    if (found != "true" && found != "false") {
      return wrong_value(name, "true or false", node);
    }
    value = found == "true";
    return {};
  };
  return setting;
}

Setting choice(std::string_view key, size_t& value, std::span<const char* const> names,
               std::string_view help) {
  Setting setting{key, help, listed(names)};
  setting.schema = one_of(names);
  setting.read = [&value, names](const YAML::Node& node, const std::string& name) -> Status {
    RWKV_ASSIGN(value, find_name(node, names, name));
    return {};
  };
  setting.print = [&value, names](YAML::Emitter& out) { out << names[value]; };
  return setting;
}

Setting choice(std::string_view key, std::string& value, std::span<const char* const> names,
               std::string_view help) {
  Setting setting = plain(key, value, help, listed(names));
  setting.schema = one_of(names);
  setting.read = [&value, names](const YAML::Node& node, const std::string& name) -> Status {
    RWKV_ASSIGN(const size_t index, find_name(node, names, name));
    value = names[index];
    return {};
  };
  return setting;
}

Setting text(std::string_view key, std::string& value, std::string_view help) {
  Setting setting = plain(key, value, help, "a text");
  setting.schema = R"({"type": ["string", "number", "boolean"]})";
  setting.read = [&value](const YAML::Node& node, const std::string& name) -> Status {
    if (!node.IsScalar()) {
      return wrong_value(name, "a text", node);
    }
    value = node.Scalar();
    return {};
  };
  return setting;
}

Setting quoted_text(std::string_view key, std::string& value, std::string_view help) {
  Setting setting = text(key, value, help);
  setting.print = [&value](YAML::Emitter& out) { out << YAML::DoubleQuoted << value; };
  return setting;
}

Setting texts(std::string_view key, std::vector<std::string>& value, std::string_view help) {
  Setting setting{key, help, "a list of texts"};
  setting.schema = R"({"type": "array", "items": {"type": ["string", "number", "boolean"]}})";
  setting.read = [&value](const YAML::Node& node, const std::string& name) -> Status {
    const bool fits =
        node.IsSequence() && std::all_of(node.begin(), node.end(),
                                         [](const YAML::Node& entry) { return entry.IsScalar(); });
    if (!fits) {
      return wrong_value(name, "a list of texts", node);
    }
    value.clear();
    for (const YAML::Node& entry : node) {
      value.push_back(entry.Scalar());
    }
    return {};
  };
  setting.print = [&value](YAML::Emitter& out) { out << YAML::Flow << value; };
  return setting;
}

Setting bytes(std::string_view key, uint64_t& value, std::string_view help) {
  Setting setting = plain(key, value, help, "a number of bytes, such as 200MB");
  setting.schema = R"({"type": ["string", "integer"]})";
  setting.read = [&value](const YAML::Node& node, const std::string& name) -> Status {
    auto found = parse_bytes(node.IsScalar() ? node.Scalar() : "");
    RWKV_TRY(found.status().in(name));
    value = found.value();
    return {};
  };
  return setting;
}

Setting codec(std::string_view key, Codec& value, std::string_view help) {
  Setting setting{key, help, listed(codec_names())};
  setting.schema = one_of(names_with_others(codec_names()));
  setting.read = [&value](const YAML::Node& node, const std::string& name) -> Status {
    const std::vector<const char*> names = codec_names();
    for (const char* codec : names) {
      if (node.IsScalar() && is_same_format(node.Scalar(), codec)) {
        value = find_codec(codec)->codec;
        return {};
      }
    }
    return find_name(node, names, name).status();
  };
  setting.print = [&value](YAML::Emitter& out) { out << codec_traits(value).name; };
  return setting;
}

}  // namespace setting

Status read_override(const YAML::Node& entry, const std::string& name, const Setting& setting,
                     std::string& match) {
  const std::vector<std::string_view> keys = {"match", setting.key};
  RWKV_TRY(check_keys(entry, name, keys));
  const YAML::Node value = entry[std::string(setting.key)];
  if (!entry["match"] || !value) {
    return usage_error("{}: expected {{match: GLOB, {}: VALUE}}, found an entry without {}{}", name,
                       setting.key, value ? "match" : setting.key, at_line(entry));
  }
  RWKV_TRY(setting::text("match", match, "").read(entry["match"], name + ".match"));
  return setting.read(value, fmt::format("{}.{}", name, setting.key));
}

void emit_override(YAML::Emitter& out, const std::string& match, const Setting& setting) {
  out << YAML::Flow << YAML::BeginMap << YAML::Key << "match" << YAML::Value << YAML::DoubleQuoted
      << match << YAML::Key << std::string(setting.key) << YAML::Value;
  setting.print(out);
  out << YAML::EndMap;
}

std::string schema_of_overrides(const Setting& setting) {
  return fmt::format(
      R"({{"type": "array", "items": {{"type": "object", "properties": {{"match": {{"type": "string"}}, "{0}": {1}}}, "required": ["match", "{0}"], "additionalProperties": false}}}})",
      setting.key, setting.schema);
}

std::vector<std::string_view> Settings::keys() const {
  std::vector<std::string_view> keys;
  for (const Setting& setting : settings_) {
    keys.push_back(setting.key);
  }
  return keys;
}

Status Settings::read(const YAML::Node& map) const {
  RWKV_TRY(check_keys(map, owner_, keys()));
  for (const Setting& setting : settings_) {
    if (const YAML::Node value = map[std::string(setting.key)]) {
      RWKV_TRY(setting.read(value, fmt::format("{}.{}", owner_, setting.key)));
    }
  }
  return {};
}

void Settings::emit(YAML::Emitter& out, bool flow) const {
  if (flow) {
    out << YAML::Flow;
  }
  out << YAML::BeginMap;
  for (const Setting& setting : settings_) {
    if (setting.is_shown) {
      out << YAML::Key << std::string(setting.key) << YAML::Value;
      setting.print(out);
    }
  }
  out << YAML::EndMap;
}

}  // namespace rwkv::press
