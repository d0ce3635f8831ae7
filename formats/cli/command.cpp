#include "formats/cli/command.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <new>

#include "formats/base/byte_size.h"
#include "formats/base/leftovers.h"
#include "formats/base/mapped_files.h"
#include "formats/base/nearest.h"
#include "formats/base/output_file.h"
#include "formats/base/printable.h"
#include "formats/cli/built_ins.h"
#include "formats/cli/help.h"
#include "formats/cli/interrupt.h"
#include "formats/cli/option_table.h"
#include "formats/cli/print.h"
#include "formats/cli/version.h"

namespace rwkv::cli {
namespace {

// The name of the program, for a signal handler.
const char* program_name = "";
// What set_interrupt_note() left for it.
char interrupt_note[512] = "";

void write_text(const char* text) {
  static_cast<void>(!::write(STDERR_FILENO, text, std::strlen(text)));
}

// After a signal no unfinished output may remain. Only async-signal-safe calls are allowed here.
void end_on_signal(int signal) {
  remove_unfinished_outputs();
  write_text(interrupt_note);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// A page of a mapped file that is no longer there. Nothing can be computed without it, so the
// program ends as for any other failure: outputs removed, one line, code 1.
void end_on_lost_page(int signal, siginfo_t* info, void*) {
  // Other threads touch the same pages: the first one has the word, and ends the process.
  static std::atomic_flag is_said = ATOMIC_FLAG_INIT;
  while (is_said.test_and_set()) {
    ::pause();
  }
  const char* path = mapped_file_at(info->si_addr);
  if (!path) {
    end_on_signal(signal);
    return;
  }
  remove_unfinished_outputs();
  write_text(program_name);
  write_text(": error: ");
  write_text(path);
  write_text(
      ": the file became shorter, or its storage failed, while it was in use; restore the file and "
      "start again\n");
  ::_exit(static_cast<int>(Code::Failed));
}

void install_signal_handlers(const Program& program) {
  program_name = program.name;
  struct sigaction lost_page = {};
  lost_page.sa_sigaction = end_on_lost_page;
  lost_page.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &lost_page, nullptr);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    std::signal(signal, end_on_signal);
  }
  // Writing past a file size limit should be an error, like a full disk, and not end the process.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
}

void print_version(const Program& program) {
  print("{} {} ({}, {})\n", program.name, kVersion, kCompiler, kBuildType);
}

const Command* find_command(const Program& program, std::string_view name) {
  for (const Command& command : program.commands) {
    if (name == command.name) {
      return &command;
    }
  }
  return nullptr;
}

Status unknown_command(const Program& program, std::string_view name) {
  std::vector<std::string_view> names;
  for (const Command& command : program.commands) {
    if (command.summary) {
      names.emplace_back(command.name);
    }
  }
  for (const BuiltIn& built_in : built_ins()) {
    names.emplace_back(built_in.name);
  }
  return usage_error("unknown command '{}'{}", name, suggestion(name, names));
}

Status run_command(const Program& program, const Command& command,
                   std::span<const std::string> words) {
  DeclaredOptions declared = declared_options(program, command);
  auto checked = checked_words(declared.rows, words);
  if (!checked.ok()) {
    return usage_error("{}; see '{} {} --help'", checked.status().message(), program.name,
                       command.name);
  }
  std::vector<const char*> parsed = {program.name};
  for (const std::string& word : checked.value()) {
    parsed.push_back(word.c_str());
  }
  try {
    const cxxopts::ParseResult arguments =
        declared.parser.parse(static_cast<int>(parsed.size()), parsed.data());
    if (arguments.count("help") > 0) {
      print("{}", command_help(program, command, declared.rows, output_width()));
      return {};
    }
    if (!arguments.unmatched().empty()) {
      return usage_error("unexpected argument '{}'; see '{} {} --help'",
                         arguments.unmatched().front(), program.name, command.name);
    }
    return command.run(arguments);
  } catch (const cxxopts::exceptions::exception& error) {
    return usage_error("{}; see '{} {} --help'", error.what(), program.name, command.name);
  }
}

/// The page of the program, or of the command that `words` name.
Status help(const Program& program, std::span<const std::string> words) {
  if (words.empty()) {
    print("{}", program_help(program, output_width()));
    return {};
  }
  if (const Command* command = find_command(program, words[0])) {
    const std::string option = "--help";
    return run_command(program, *command, {&option, 1});
  }
  if (const BuiltIn* built_in = find_built_in(words[0])) {
    print("{}\n\nUsage: {} {} {}\n", built_in->summary, program.name, built_in->name,
          built_in->positional);
    return {};
  }
  return unknown_command(program, words[0]);
}

Status dispatch(const Program& program, std::span<const std::string> words) {
  if (words.empty()) {
    print("{}", program_help(program, output_width()));
    return usage_error("expected a command, found none");
  }
  const std::string& first = words[0];
  const std::span<const std::string> rest = words.subspan(1);
  if (first == "--help" || first == "-h" || first == "help") {
    return help(program, rest);
  }
  if (first == "--version" || first == "-V") {
    print_version(program);
    return {};
  }
  if (const Command* command = find_command(program, first)) {
    return run_command(program, *command, rest);
  }
  if (const BuiltIn* built_in = find_built_in(first)) {
    return rest.size() == 1 && (rest[0] == "--help" || rest[0] == "-h")
               ? help(program, words.first(1))
               : built_in->run(program, rest);
  }
  if (program.command_of) {
    if (const Command* command = find_command(program, program.command_of(words))) {
      return run_command(program, *command, words);
    }
  }
  return unknown_command(program, first);
}

}  // namespace

void set_interrupt_note(const std::string& line) {
  const std::string text =
      line.empty() ? "" : "\n" + printable(line, sizeof(interrupt_note) - 3) + "\n";
  interrupt_note[0] = '\0';  // a signal now finds no half of it
  std::strncpy(interrupt_note + 1, text.c_str() + (text.empty() ? 0 : 1),
               sizeof(interrupt_note) - 2);
  interrupt_note[0] = text.empty() ? '\0' : '\n';
}

int run_program(const Program& program, int argc, char** argv) {
  install_signal_handlers(program);
  set_leftover_listener(
      [](const std::string& line) { print(stderr, "note: {}\n", printable(line)); });
  Status status;
  try {
    const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
    status = dispatch(program, words);
  } catch (const std::bad_alloc&) {
    status = failed("out of memory");
  } catch (const std::exception& error) {
    status = failed("{}", error.what());
  }
  if (status.ok() && (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)) {
    status = failed("cannot write the results to stdout");
  }
  // What was read was enough for who read it.
  if (std::ferror(stdout) != 0 && reader_has_gone()) {
    return static_cast<int>(Code::Ok);
  }
  if (!status.ok()) {
    std::fflush(stdout);
    print_error(program.name, status);
  }
  return static_cast<int>(status.code());
}

bool reader_has_gone() {
  pollfd output = {STDOUT_FILENO, 0, 0};
  return ::poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP)) != 0;
}

Result<std::string> required(const cxxopts::ParseResult& arguments, const std::string& name) {
  if (arguments.count(name) == 0) {
    return usage_error("'{}' is missing; see --help", name);
  }
  std::string value = arguments[name].as<std::string>();
  if (value.empty()) {
    return usage_error("'{}' is empty", name);
  }
  return value;
}

namespace {

template <typename T>
Result<T> number(const cxxopts::ParseResult& arguments, const std::string& name, T low, T high) {
  const std::string text = arguments[name].as<std::string>();
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= low) ||
      !(value <= high)) {
    return usage_error("{}{}: expected a number from {} to {}, found '{}'",
                       name.size() == 1 ? "-" : "--", name, low, high, text);
  }
  return value;
}

}  // namespace

Result<int64_t> integer(const cxxopts::ParseResult& arguments, const std::string& name, int64_t low,
                        int64_t high) {
  return number<int64_t>(arguments, name, low, high);
}

Result<double> real(const cxxopts::ParseResult& arguments, const std::string& name, double low,
                    double high) {
  return number<double>(arguments, name, low, high);
}

Result<uint64_t> byte_size(const cxxopts::ParseResult& arguments, const std::string& name,
                           uint64_t otherwise) {
  if (arguments.count(name) == 0) {
    return otherwise;
  }
  auto bytes = parse_bytes(arguments[name].as<std::string>());
  RWKV_TRY(bytes.status().in("--" + name));
  return bytes;
}

Status refuse_own_input(const cxxopts::ParseResult& arguments, const std::string& output,
                        std::span<const char* const> inputs) {
  for (const cxxopts::KeyValue& option : arguments.arguments()) {
    const bool is_input = std::find(inputs.begin(), inputs.end(), option.key()) != inputs.end();
    std::error_code error;
    if (is_input && std::filesystem::equivalent(output, option.value(), error) && !error) {
      return usage_error("{}: the output is {}, which is being read; choose another name", output,
                         option.value());
    }
  }
  return {};
}

std::string human_bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1000.0 && unit + 1 < std::size(kUnits)) {
    value /= 1000.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace rwkv::cli
