#include "formats/tokenizer/chat_template.h"

#include <algorithm>
#include <array>

#include "formats/base/nearest.h"

namespace rwkv {
namespace {

// World models were trained with an empty line between turns and with none inside them.
constexpr std::array<std::string_view, 1> kWorldStops = {"\n\n"};
// Answers of G1 models may have paragraphs; what follows them is the next speaker.
constexpr std::array<std::string_view, 3> kG1Stops = {"\n\nUser:", "\n\nSystem:", "\n\nAssistant:"};

constexpr ChatTemplate speakers(const char* name, const char* summary, const char* answer_begin,
                                std::span<const std::string_view> stops) {
  return {name,         summary, "System: ", "\n\n", "User: ", "\n\nAssistant:",
          answer_begin, "\n\n",  stops,      true,   true};
}

constexpr std::array<ChatTemplate, 5> kTemplates = {{
    speakers("world", "RWKV World models", "", kWorldStops),
    speakers("g1", "G1 models, answering without thinking", "", kG1Stops),
    speakers("g1-think", "G1 models, thinking before they answer", " <think", kG1Stops),
    speakers("g1-no-think", "G1 models of late 2025 and after, told that the thinking is done",
             " <think>\n</think>\n", kG1Stops),
    {"none", "The model goes on with what is typed", "", "", "", "", "", "", {}, false, false},
}};

const ChatTemplate& known(std::string_view name) {
  return *std::find_if(kTemplates.begin(), kTemplates.end(),
                       [&](const ChatTemplate& one) { return one.name == name; });
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// Finds "g0" or "g1" as a word, with the letter and the number of a revision: "g1", "G1a2".
bool names_g1(std::string_view name) {
  for (size_t i = 0; i + 1 < name.size(); ++i) {
    const bool begins = i == 0 || (!is_letter(name[i - 1]) && !is_digit(name[i - 1]));
    if (!begins || (name[i] != 'g' && name[i] != 'G') ||
        (name[i + 1] != '0' && name[i + 1] != '1')) {
      continue;
    }
    size_t end = i + 2;
    end += end < name.size() && is_letter(name[end]) ? 1 : 0;
    while (end < name.size() && is_digit(name[end])) {
      ++end;
    }
    if (end == name.size() || !is_letter(name[end])) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string ChatTemplate::message(std::string_view typed) const {
  constexpr std::string_view kBlanks = " \t\r\n";
  if (!joins_blank_lines) {
    return std::string(typed);
  }
  const size_t begin = std::min(typed.find_first_not_of(kBlanks), typed.size());
  typed.remove_prefix(begin);
  typed = typed.substr(0, typed.find_last_not_of(kBlanks) + 1);
  std::string text;
  for (const char c : typed) {
    if (c != '\n' || !text.ends_with('\n')) {
      text += c;
    }
  }
  return text;
}

std::span<const ChatTemplate> chat_templates() {
  return kTemplates;
}

Result<const ChatTemplate*> chat_template_named(std::string_view name, std::string_view option) {
  std::vector<std::string_view> names;
  for (const ChatTemplate& one : kTemplates) {
    if (one.name == name) {
      return &one;
    }
    names.emplace_back(one.name);
  }
  return usage_error("{}: unknown chat template '{}'{}", option, name, suggestion(name, names));
}

std::string chat_template_names() {
  std::string names;
  for (const ChatTemplate& one : kTemplates) {
    names += names.empty() ? "" : "|";
    names += one.name;
  }
  return names;
}

const ChatTemplate& chat_template_for(std::optional<TokenizerKind> vocabulary, size_t n_tokens,
                                      std::span<const std::string> names) {
  // World's vocabulary has 65,529 tokens; others in its format belong to models for other tasks.
  constexpr size_t kLeastWorldTokens = 65000;
  if (vocabulary != TokenizerKind::World || n_tokens < kLeastWorldTokens) {
    return known("none");
  }
  return known(std::any_of(names.begin(), names.end(), names_g1) ? "g1" : "world");
}

}  // namespace rwkv
