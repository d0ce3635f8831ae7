// Editing with libedit. The library is loaded by name: the program must run, and be built, where it
// is not there.
#include "runtime/tools/line_reader.h"

#ifdef RWKV_WITH_LIBEDIT

#include <dlfcn.h>
#include <histedit.h>
#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "formats/base/utf8.h"
#include "runtime/tools/interrupt.h"

namespace rwkv::edge {
namespace {

#define RWKV_LIBEDIT_FUNCTIONS(X) \
  X(el_init)                      \
  X(el_end)                       \
  X(el_wset)                      \
  X(el_wgets)                     \
  X(el_winsertstr)                \
  X(el_resize)                    \
  X(history_winit)                \
  X(history_wend)                 \
  X(history_w)

/// The functions of the library that are used.
struct Library {
#define RWKV_LIBEDIT_DECLARE(name) decltype(&::name) name = nullptr;
  RWKV_LIBEDIT_FUNCTIONS(RWKV_LIBEDIT_DECLARE)
#undef RWKV_LIBEDIT_DECLARE

  /// False if the library, or one of the functions, is not there. It stays loaded.
  bool load() {
    void* handle = ::dlopen("libedit.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      return false;
    }
    bool is_complete = true;
#define RWKV_LIBEDIT_LOAD(name)                                    \
  name = reinterpret_cast<decltype(name)>(::dlsym(handle, #name)); \
  is_complete = is_complete && name != nullptr;
    RWKV_LIBEDIT_FUNCTIONS(RWKV_LIBEDIT_LOAD)
#undef RWKV_LIBEDIT_LOAD
    return is_complete;
  }
};

// What the library's callbacks, which have no argument of ours, work with.
Library library;
std::wstring shown_prompt;
bool was_interrupted = false;
volatile std::sig_atomic_t was_resized = 0;

void note_resize(int) {
  was_resized = 1;
}

/// One byte of standard input: 1, 0 at its end, -1 if Ctrl-C came.
int read_byte(EditLine* editor, unsigned char& byte) {
  while (true) {
    CatchInterrupts::wait_for_input();
    if (CatchInterrupts::requested()) {
      return -1;
    }
    if (was_resized != 0) {
      was_resized = 0;
      library.el_resize(editor);
      library.el_wset(editor, EL_REFRESH);
      continue;
    }
    const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
    if (n >= 0 || errno != EINTR) {
      return n > 0 ? 1 : 0;
    }
  }
}

/// One character; bytes that are no UTF-8 become U+FFFD.
int read_character(EditLine* editor, wchar_t* out) {
  constexpr wchar_t kReplacement = 0xFFFD;
  std::string bytes;
  size_t length = 1;
  while (bytes.size() < length) {
    unsigned char byte = 0;
    const int n = read_byte(editor, byte);
    if (n <= 0) {
      was_interrupted = n < 0;
      return n;
    }
    if (bytes.empty()) {
      length = byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    }
    bytes += static_cast<char>(byte);
  }
  const CodePoint point = decode_utf8(bytes);
  *out = point.length == bytes.size() ? static_cast<wchar_t>(point.value) : kReplacement;
  return 1;
}

std::wstring to_wide(std::string_view text) {
  std::wstring wide;
  while (!text.empty()) {
    const CodePoint point = decode_utf8(text);
    wide += point.length > 0 ? static_cast<wchar_t>(point.value) : L'\xFFFD';
    text.remove_prefix(point.length > 0 ? point.length : 1);
  }
  return wide;
}

std::string to_utf8(const wchar_t* wide) {
  std::string text;
  for (; *wide != L'\0'; ++wide) {
    const auto value = static_cast<uint32_t>(*wide);
    append_utf8(text, is_scalar_value(value) ? value : 0xFFFD);
  }
  return text;
}

/// Bound to what a terminal sends before pasted text: inserts all of it, ends of lines too.
unsigned char take_paste(EditLine* editor, wint_t) {
  const std::string ends = kPasteEnds;
  std::string bytes;
  while (!bytes.ends_with(ends)) {
    wchar_t c = 0;
    if (read_character(editor, &c) != 1) {
      return CC_EOF;
    }
    append_utf8(bytes, static_cast<uint32_t>(c));
  }
  const std::wstring text = to_wide(pasted_text(bytes.substr(0, bytes.size() - ends.size())));
  return library.el_winsertstr(editor, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

/// Bound to Alt-Enter: a message of several lines.
unsigned char insert_line_end(EditLine* editor, wint_t) {
  return library.el_winsertstr(editor, L"\n") == 0 ? CC_REFRESH : CC_ERROR;
}

wchar_t* prompt_of(EditLine*) {
  return shown_prompt.data();
}

/// The library writes characters as the locale has them, and they are UTF-8 here.
void use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
}

class EditingLineReader final : public LineReader {
 public:
  EditingLineReader() {
    constexpr int kHistoryLength = 500;
    use_utf8();
    editor_ = library.el_init("rwkv-edge", stdin, stdout, stderr);
    history_ = library.history_winit();
    HistEventW event = {};
    library.history_w(history_, &event, H_SETSIZE, kHistoryLength);
    library.history_w(history_, &event, H_SETUNIQUE, 1);
    set(EL_SIGNAL, 0);
    set(EL_PROMPT, prompt_of);
    set(EL_EDITOR, L"emacs");
    set(EL_HIST, library.history_w, history_);
    set(EL_GETCFN, read_character);
    set(EL_ADDFN, L"take-paste", L"Insert pasted text", take_paste);
    set(EL_ADDFN, L"insert-line-end", L"Insert the end of a line", insert_line_end);
    bind(L"\\e[200~", L"take-paste");
    bind(L"\\e\\n", L"insert-line-end");
    bind(L"\\e\\r", L"insert-line-end");
    bind(L"^R", L"em-inc-search-prev");
    bind(L"\\e[3~", L"ed-delete-next-char");
    struct sigaction action = {};
    action.sa_handler = note_resize;
    action.sa_flags = SA_RESTART;  // an answer that is being written goes on
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGWINCH, &action, &resize_before_);
  }

  ~EditingLineReader() override {
    ::sigaction(SIGWINCH, &resize_before_, nullptr);
    library.el_end(editor_);
    library.history_wend(history_);
  }

  End read(const std::string& prompt, std::string& message) override {
    // Before the prompt: the library does so after it, and a Ctrl-D typed in between would be lost.
    set(EL_PREP_TERM, 1);
    const MarkedPaste marked(true);
    message.clear();
    std::string shown = prompt;
    while (true) {
      shown_prompt = to_wide(shown);
      was_interrupted = false;
      int n = 0;
      const wchar_t* line = library.el_wgets(editor_, &n);
      if (!line || n <= 0) {
        return was_interrupted || CatchInterrupts::requested() ? End::Interrupted : End::EndOfInput;
      }
      std::string text = to_utf8(line);
      text.resize(text.size() - (text.ends_with('\n') ? 1 : 0));
      if (!text.ends_with('\\')) {
        message += text;
        break;
      }
      message += text.substr(0, text.size() - 1) + "\n";
      shown = "... ";
    }
    if (!message.empty()) {
      HistEventW event = {};
      library.history_w(history_, &event, H_ENTER, to_wide(message).c_str());
    }
    return End::Line;
  }

  const char* editor() const override { return "libedit"; }

 private:
  template <typename... Values>
  void set(int what, Values... values) {
    library.el_wset(editor_, what, values...);
  }
  void bind(const wchar_t* keys, const wchar_t* function) {
    library.el_wset(editor_, EL_BIND, keys, function, static_cast<wchar_t*>(nullptr));
  }

  EditLine* editor_ = nullptr;
  HistoryW* history_ = nullptr;
  struct sigaction resize_before_ = {};
};

}  // namespace

std::unique_ptr<LineReader> editing_line_reader() {
  const char* terminal = std::getenv("TERM");
  const bool is_simple =
      !terminal || std::strcmp(terminal, "") == 0 || std::strcmp(terminal, "dumb") == 0;
  if (is_simple || !library.load()) {
    return nullptr;
  }
  return std::make_unique<EditingLineReader>();
}

}  // namespace rwkv::edge

#else

namespace rwkv::edge {

std::unique_ptr<LineReader> editing_line_reader() {
  return nullptr;
}

}  // namespace rwkv::edge

#endif
