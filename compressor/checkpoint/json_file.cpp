#include "compressor/checkpoint/json_file.h"

#include "formats/base/file.h"
#include "formats/base/strict_json.h"

namespace rwkv::press {
Result<nlohmann::json> read_json_file(const std::string& path, uint64_t max_bytes) {
  RWKV_ASSIGN(const std::string text, read_text_file(path, max_bytes));
  Result<nlohmann::json> json = parse_strict_json(text);
  RWKV_TRY(json.status().in(path));
  if (!json.value().is_object()) {
    return bad_input("{}: expected a JSON object, found {}; the file is damaged, fetch it again",
                     path, json.value().type_name());
  }
  return json;
}

}  // namespace rwkv::press
