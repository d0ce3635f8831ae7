#include "compressor/stages/command_line.h"

#include <array>

namespace rwkv::press {
namespace {

constexpr size_t kMostBytes = 64 << 10;

struct Place {
  std::string_view text;
  const char* variable;
};
constexpr std::array<Place, 2> kPlaces = {
    {{"{input}", kInputVariable}, {"{output}", kOutputVariable}}};

// What is open in the command so far: quotes, and the brackets of $(...), in which quotes begin
// anew. Comments and here-documents are not known to it; there a name may fall apart into words.
class Open {
 public:
  bool in_single() const { return top() == '\''; }
  bool in_double() const { return top() == '"'; }

  void take(char c, bool after_dollar) {
    if (in_single()) {
      close_if(c == '\'');
    } else if (in_double()) {
      close_if(c == '"');
      if (c == '(' && after_dollar) {
        open_ += c;
      }
    } else if (c == '\'' || c == '"' || c == '(') {
      open_ += c;
    } else {
      close_if(c == ')' && top() == '(');
    }
  }

 private:
  char top() const { return open_.empty() ? '\0' : open_.back(); }
  void close_if(bool is_end) {
    if (is_end) {
      open_.pop_back();
    }
  }
  std::string open_;
};

std::string reference(const char* variable, const Open& open) {
  const std::string value = fmt::format("${{{}}}", variable);
  return open.in_double() ? value : open.in_single() ? "'\"" + value + "\"'" : "\"" + value + "\"";
}

const Place* place_at(std::string_view rest) {
  for (const Place& place : kPlaces) {
    if (rest.starts_with(place.text)) {
      return &place;
    }
  }
  return nullptr;
}

}  // namespace

Status check_command(std::string_view command) {
  if (command.empty()) {
    return usage_error(
        "external.command is missing; expected a command with {{input}} and {{output}}");
  }
  if (command.find('\0') != std::string_view::npos) {
    return usage_error("external.command has a byte 0 at {}; remove it", command.find('\0'));
  }
  if (command.size() > kMostBytes) {
    return usage_error("external.command: expected at most {} bytes, found {}; put it in a script",
                       kMostBytes, command.size());
  }
  for (const Place& place : kPlaces) {
    if (command.find(place.text) == std::string_view::npos) {
      return usage_error("external.command has no {}: '{}'", place.text, command);
    }
  }
  return {};
}

std::string with_variables(std::string_view command) {
  std::string text;
  Open open;
  for (size_t at = 0; at < command.size();) {
    const char c = command[at];
    if (const Place* place = place_at(command.substr(at))) {
      text += reference(place->variable, open);
      at += place->text.size();
    } else if (c == '\\' && !open.in_single() && at + 1 < command.size()) {
      text += command.substr(at, 2);
      at += 2;
    } else {
      open.take(c, at > 0 && command[at - 1] == '$');
      text += c;
      ++at;
    }
  }
  return text;
}

}  // namespace rwkv::press
