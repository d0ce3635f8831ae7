#include "formats/cli/print.h"

#include <unistd.h>

#include <string>

#include "formats/base/printable.h"

namespace rwkv::cli {
namespace {

void write(std::FILE* out, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), out);
}

}  // namespace

void print_lines(std::FILE* out, std::string_view text) {
  write(out, printable_lines(text));
}

void print_json(std::string_view json) {
  write(stdout, printable_json(json) + "\n");
}

void print_text(std::string_view text) {
  static const bool is_terminal = ::isatty(STDOUT_FILENO) != 0;
  write(stdout, is_terminal ? printable_stream(text) : std::string(text));
}

void print_error(const char* name, const Status& status) {
  write(stderr, fmt::format("{}: error: {}\n", name, printable(status.message())));
}

}  // namespace rwkv::cli
