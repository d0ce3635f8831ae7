// Ctrl-C as a request, for commands that end their work in order: the text so far stays.
#pragma once

namespace rwkv::edge {

/// While it lives, the first SIGINT only sets a flag and ends wait_for_input(); other system calls
/// go on. With `ends_at_second`, a second one before the first was answered ends the program.
class CatchInterrupts {
 public:
  explicit CatchInterrupts(bool ends_at_second);
  ~CatchInterrupts();
  CatchInterrupts(const CatchInterrupts&) = delete;
  CatchInterrupts& operator=(const CatchInterrupts&) = delete;

  static bool requested();
  /// The request was answered.
  static void clear();
  /// Waits until standard input can be read or a signal came; a request that came before, or comes
  /// while it waits, ends it at once.
  static void wait_for_input();
  /// Ends the program by the signal, as an interrupted program does.
  [[noreturn]] static void end_program();
};

}  // namespace rwkv::edge
