// Lines that a person types: with history and editing where the system has libedit (it is loaded
// when it is needed, so that the program runs without it), else as the terminal gives them, or from
// a pipe.
#pragma once

#include <memory>
#include <string>

namespace rwkv::edge {

class LineReader {
 public:
  enum class End {
    Line,         ///< a message is complete
    Interrupted,  ///< Ctrl-C
    EndOfInput    ///< Ctrl-D, or the end of a pipe
  };

  virtual ~LineReader() = default;
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// Shows `prompt` on a terminal and reads one message into `message`, without the end of its last
  /// line. Pasted text is one message, however many lines it has; so are lines that end in a
  /// backslash and the line after them. Ctrl-C must be caught (see CatchInterrupts).
  virtual End read(const std::string& prompt, std::string& message) = 0;
  /// What edits the lines: "libedit", or nothing special.
  virtual const char* editor() const = 0;

  /// For standard input. `with_editing` false never loads a library.
  static std::unique_ptr<LineReader> for_standard_input(bool with_editing);

 protected:
  LineReader() = default;
};

/// With libedit; nullptr if it is not there or the terminal is too simple for it.
std::unique_ptr<LineReader> editing_line_reader();

/// Terminals mark pasted text if they are asked to, while the object lives.
class MarkedPaste {
 public:
  explicit MarkedPaste(bool is_terminal);
  ~MarkedPaste();
  MarkedPaste(const MarkedPaste&) = delete;
  MarkedPaste& operator=(const MarkedPaste&) = delete;

 private:
  bool is_terminal_;
};

/// What stands before and after pasted text.
inline constexpr const char* kPasteBegins = "\x1b[200~";
inline constexpr const char* kPasteEnds = "\x1b[201~";

/// Pasted text as a message has it: lines end in LF, and no other control characters but tabs.
std::string pasted_text(const std::string& bytes);

}  // namespace rwkv::edge
