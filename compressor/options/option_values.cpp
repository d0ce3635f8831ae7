#include "compressor/options/option_values.h"

#include <charconv>
#include <cmath>
#include <iterator>

#include "formats/base/nearest.h"

namespace rwkv::press {
namespace {

std::string text_of(const YAML::Node& node) {
  return node.IsScalar() ? node.Scalar() : "";
}

template <typename Number>
bool parse(const std::string& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Status OptionValues::wrong(const char* key, const std::string& wanted) const {
  const YAML::Node node = options_[key];
  return usage_error("{}.{} is '{}', {} is wanted", stage_, key,
                     node.IsScalar() ? node.Scalar() : "not a single value", wanted);
}

Status OptionValues::count(const char* key, uint64_t least, uint64_t most, uint64_t& value) const {
  if (!options_[key]) {
    return {};
  }
  uint64_t found = 0;
  if (!parse(text_of(options_[key]), found) || found < least || found > most) {
    return wrong(key, most == UINT64_MAX
                          ? fmt::format("a whole number of at least {}", least)
                          : fmt::format("a whole number from {} to {}", least, most));
  }
  value = found;
  return {};
}

Status OptionValues::real(const char* key, double least, double most, double& value) const {
  if (!options_[key]) {
    return {};
  }
  double found = 0;
  if (!parse(text_of(options_[key]), found) || !(found >= least && found <= most)) {
    return wrong(key, fmt::format("a number from {} to {}", least, most));
  }
  value = found;
  return {};
}

Status OptionValues::flag(const char* key, bool& value) const {
  if (!options_[key]) {
    return {};
  }
  const std::string text = text_of(options_[key]);
  if (text != "true" && text != "false") {
    return wrong(key, "true or false");
  }
  value = text == "true";
  return {};
}

Status OptionValues::choice(const char* key, std::span<const char* const> names,
                            size_t& value) const {
  if (!options_[key]) {
    return {};
  }
  const std::string text = text_of(options_[key]);
  for (size_t i = 0; i < names.size(); ++i) {
    if (text == names[i]) {
      value = i;
      return {};
    }
  }
  const std::vector<std::string_view> all(names.begin(), names.end());
  return usage_error("{}.{} is '{}'{}", stage_, key, text, suggestion(text, all));
}

Status OptionValues::text(const char* key, std::string& value) const {
  const YAML::Node node = options_[key];
  if (!node) {
    return {};
  }
  if (!node.IsScalar()) {
    return wrong(key, "a text");
  }
  value = node.Scalar();
  return {};
}

Status OptionValues::texts(const char* key, std::vector<std::string>& value) const {
  const YAML::Node node = options_[key];
  if (!node) {
    return {};
  }
  if (!node.IsSequence()) {
    return wrong(key, "a list");
  }
  value.clear();
  for (const YAML::Node& entry : node) {
    if (!entry.IsScalar()) {
      return wrong(key, "a list of names");
    }
    value.push_back(entry.Scalar());
  }
  return {};
}

}  // namespace rwkv::press
