// How the turns of a chat are written as one text, for each family of models: the one list of
// templates. The forms are those that the authors of the models train with and recommend.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"
#include "formats/tokenizer/tokenizer.h"

namespace rwkv {

/// A turn is user_begin, the message, user_end and answer_begin; the model writes the answer. Turns
/// are separated by turn_end.
struct ChatTemplate {
  const char* name;
  const char* summary;
  const char* system_begin;
  const char* system_end;
  const char* user_begin;
  const char* user_end;
  const char* answer_begin;  ///< the beginning of the answer that the model does not choose; shown
  const char* turn_end;
  std::span<const std::string_view> stops;  ///< each ends an answer and is no part of it
  /// Blank lines separate turns, so those inside a message become ends of lines.
  bool joins_blank_lines;
  /// The text begins with the token that ends texts, as in training.
  bool begins_with_end_of_text;

  /// A message as it stands in a turn: without blanks around it, its blank lines joined.
  std::string message(std::string_view typed) const;
};

std::span<const ChatTemplate> chat_templates();
/// Usage with a suggestion for any other name; `option` is named in the message.
Result<const ChatTemplate*> chat_template_named(std::string_view name, std::string_view option);
/// "world|g1|...": for help.
std::string chat_template_names();

/// The template that fits a model: that of G1 if one of `names` (of the model, of its file) says so
/// as a word of its own, that of World for any other model with World's vocabulary, else "none".
/// `vocabulary` is empty for a model without one.
const ChatTemplate& chat_template_for(std::optional<TokenizerKind> vocabulary, size_t n_tokens,
                                      std::span<const std::string> names);

}  // namespace rwkv
