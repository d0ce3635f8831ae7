// The loop of a chat: what was typed is a message, or a command that begins with a slash.
#pragma once

#include <string>
#include <string_view>

#include "runtime/text/conversation.h"
#include "runtime/tools/line_reader.h"

namespace rwkv::edge {

/// True if a person types: standard input is a terminal.
bool reads_terminal();

class Chat {
 public:
  /// Both must outlive it.
  Chat(Conversation& conversation, LineReader& reader, bool quiet);

  /// Reads and answers until the input ends or the user does. What a single message or command
  /// fails with is printed, and the chat goes on.
  Status run();

  /// Begins again with `text` in front of all turns.
  Status set_system(const std::string& text);

  // The commands; `argument` is what stands behind their names.
  Status reset(const std::string& argument);
  Status retry(const std::string& argument);
  Status undo(const std::string& argument);
  Status save(const std::string& argument);
  Status load(const std::string& argument);
  Status system(const std::string& argument);
  Status set(const std::string& argument);
  Status stats(const std::string& argument);
  Status memory(const std::string& argument);
  Status help(const std::string& argument);
  Status quit(const std::string& argument);

 private:
  Status take(const std::string& typed);
  Status say(const std::string& message);
  /// The answer of say() or retry(), streamed, with what both need.
  template <typename Ask>
  Status print_answer(const Ask& ask);
  void note(const std::string& text) const;

  Conversation& conversation_;
  LineReader& reader_;
  bool quiet_;
  bool is_over_ = false;
  double read_seconds_ = 0.0;
  double write_seconds_ = 0.0;
};

}  // namespace rwkv::edge
