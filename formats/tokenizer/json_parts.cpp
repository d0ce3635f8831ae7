#include "formats/tokenizer/json_parts.h"

#include <algorithm>

#include "formats/tokenizer/escape.h"

namespace rwkv {

const Json& member(const Json& object, const char* key) {
  static const Json kMissing;
  if (!object.is_object()) {
    return kMissing;
  }
  const auto found = object.find(key);
  return found == object.end() ? kMissing : *found;
}

std::string_view text_of(const Json& value) {
  const auto* const text = value.get_ptr<const Json::string_t*>();
  return text ? std::string_view(*text) : std::string_view();
}

std::string type_of(const Json& part) {
  if (part.is_null()) {
    return "none";
  }
  const std::string_view type = text_of(member(part, "type"));
  return type.empty() ? "?" : escape_token(type.substr(0, 64));
}

bool is_off(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_number() && value.get<double>() == 0.0) ||
         (value.is_string() && text_of(value).empty());
}

Status check_off(const Json& object, const char* where,
                 std::initializer_list<const char*> settings) {
  for (const char* const setting : settings) {
    if (!is_off(member(object, setting))) {
      return bad_input("{}: \"{}\" is set, which is not supported", where, setting);
    }
  }
  return {};
}

int64_t id_of(const Json& value) {
  const auto* const id = value.get_ptr<const Json::number_integer_t*>();
  return id ? std::max<int64_t>(*id, -1) : -1;
}

}  // namespace rwkv
