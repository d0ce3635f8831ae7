// Reading parts of JSON vocabularies that are not trusted: the type of each value is checked before
// the value is read.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "formats/base/status.h"

namespace rwkv {

using Json = nlohmann::json;

/// The member `key`, or a JSON null if `object` is not an object or lacks it.
const Json& member(const Json& object, const char* key);

/// The text of a string; empty for anything else.
std::string_view text_of(const Json& value);

/// "type" of a part of the file; "none" for null, "?" if it has no type.
std::string type_of(const Json& part);

/// Whether a setting is off: missing, null, false, zero or empty.
bool is_off(const Json& value);

/// BadInput for the first of `settings` of `object` that is not off; `where` names the object.
Status check_off(const Json& object, const char* where,
                 std::initializer_list<const char*> settings);

/// `value` as an integer, or -1 if it is none.
int64_t id_of(const Json& value);

}  // namespace rwkv
