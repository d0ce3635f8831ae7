#include "runtime/tools/line_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>

#include "runtime/tools/interrupt.h"

namespace rwkv::edge {
namespace {

constexpr std::string_view kBegins = kPasteBegins;
constexpr std::string_view kEnds = kPasteEnds;

/// Lines as the terminal or a pipe gives them.
class PlainLineReader final : public LineReader {
 public:
  PlainLineReader() : is_terminal_(::isatty(STDIN_FILENO) != 0) {}

  End read(const std::string& prompt, std::string& message) override {
    const MarkedPaste marked(is_terminal_);
    message.clear();
    const char* shown = prompt.c_str();
    while (true) {
      if (is_terminal_) {
        std::fputs(shown, stdout);
        std::fflush(stdout);
      }
      std::string line;
      const End end = read_line(line);
      if (end != End::Line) {
        return end == End::EndOfInput && !message.empty() ? End::Line : end;
      }
      // A line that ends in a backslash goes on; on a terminal only, text from a pipe is as it is.
      const bool goes_on = is_terminal_ && line.ends_with('\\');
      message += goes_on ? line.substr(0, line.size() - 1) + "\n" : line;
      if (!goes_on) {
        return End::Line;
      }
      shown = "... ";
    }
  }

  const char* editor() const override { return ""; }

 private:
  /// The end of the first line in buffer_ that is no part of pasted text, or npos.
  size_t find_end() const {
    size_t at = 0;
    while (true) {
      const size_t end = buffer_.find('\n', at);
      const size_t pasted = is_terminal_ ? buffer_.find(kBegins, at) : std::string::npos;
      if (end == std::string::npos || pasted > end) {
        return end;
      }
      const size_t paste_end = buffer_.find(kEnds, pasted);
      if (paste_end == std::string::npos) {
        return std::string::npos;
      }
      at = paste_end + kEnds.size();
    }
  }

  /// Takes a line out of buffer_, pasted text without its marks.
  std::string take_line(size_t end, size_t skipped) {
    std::string line = buffer_.substr(0, end);
    buffer_.erase(0, std::min(end + skipped, buffer_.size()));
    for (size_t at = line.find(kBegins); is_terminal_ && at != std::string::npos;
         at = line.find(kBegins)) {
      const size_t paste_end = std::min(line.find(kEnds, at), line.size());
      const std::string text =
          pasted_text(line.substr(at + kBegins.size(), paste_end - at - kBegins.size()));
      line.replace(at, paste_end + kEnds.size() - at, text);
    }
    return line;
  }

  End read_line(std::string& line) {
    char bytes[4096];
    while (true) {
      if (const size_t end = find_end(); end != std::string::npos) {
        line = take_line(end, 1);
        return End::Line;
      }
      CatchInterrupts::wait_for_input();
      if (CatchInterrupts::requested()) {
        buffer_.clear();
        return End::Interrupted;
      }
      const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof(bytes));
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n <= 0) {
        line = take_line(buffer_.size(), 0);
        return line.empty() ? End::EndOfInput : End::Line;
      }
      buffer_.append(bytes, static_cast<size_t>(n));
    }
  }

  bool is_terminal_;
  std::string buffer_;
};

}  // namespace

std::unique_ptr<LineReader> LineReader::for_standard_input(bool with_editing) {
  const bool is_terminal = ::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
  if (with_editing && is_terminal) {
    if (auto reader = editing_line_reader()) {
      return reader;
    }
  }
  return std::make_unique<PlainLineReader>();
}

MarkedPaste::MarkedPaste(bool is_terminal) : is_terminal_(is_terminal) {
  if (is_terminal_) {
    std::fputs("\x1b[?2004h", stdout);
    std::fflush(stdout);
  }
}

MarkedPaste::~MarkedPaste() {
  if (is_terminal_) {
    std::fputs("\x1b[?2004l", stdout);
    std::fflush(stdout);
  }
}

std::string pasted_text(const std::string& bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (byte == '\r') {
      text += i + 1 < bytes.size() && bytes[i + 1] == '\n' ? "" : "\n";
    } else if (byte >= 0x20 || byte == '\n' || byte == '\t') {
      text += byte == 0x7f ? "" : std::string(1, bytes[i]);
    }
  }
  return text;
}

}  // namespace rwkv::edge
