// Refusals end in what to do: "expected X, found Y; do Z".
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace rwkv::test {

/// Whether a verb that tells the user what to do stands as a word after the first semicolon.
inline bool says_what_to_do(std::string_view message) {
  constexpr std::array<std::string_view, 25> kVerbs = {
      "fetch",  "take",     "save",    "convert", "name",     "merge",  "run",
      "remove", "use",      "unpack",  "gather",  "download", "give",   "choose",
      "cast",   "quantise", "split",   "shorten", "correct",  "decode", "belong",
      "make",   "join",     "decrypt", "check"};
  const size_t semicolon = message.find(';');
  if (semicolon == message.npos) {
    return false;
  }
  const std::string_view advice = message.substr(semicolon + 1);
  return std::any_of(kVerbs.begin(), kVerbs.end(), [&](std::string_view verb) {
    const size_t at = advice.find(verb);
    return at != advice.npos && at > 0 && advice[at - 1] == ' ';
  });
}

}  // namespace rwkv::test
