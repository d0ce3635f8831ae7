#include "formats/cli/command.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "formats/base/file.h"
#include "formats/base/nearest.h"
#include "formats/cli/short_options.h"
#include "formats/cli/version.h"

namespace rwkv::cli {
namespace {

// After a signal no unfinished output may remain. Only async-signal-safe calls are allowed here.
void end_on_signal(int signal) {
  remove_unfinished_outputs();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void install_signal_handlers() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    std::signal(signal, end_on_signal);
  }
  // Writing past a file size limit should be an error, like a full disk, and not end the process.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
}

void print_overview(const Program& program) {
  fmt::print("{}: {}\n\nUsage: {} COMMAND ...\n\nCommands:\n", program.name, program.summary,
             program.name);
  for (const Command& command : program.commands) {
    if (command.summary) {
      fmt::print("  {:<14} {}\n", command.name, command.summary);
    }
  }
  fmt::print("\n'{} COMMAND --help' shows the options of a command.\n", program.name);
}

void print_version(const Program& program) {
  fmt::print("{} {} ({}, {})\n", program.name, kVersion, kCompiler, kBuildType);
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
      names.push_back(command.name);
    }
  }
  return usage_error("unknown command '{}'{}", name, suggestion(name, names));
}

// The name of the long option that the parser does not know, or empty. Values may begin with dashes
// too, so the message of the parser decides.
std::string unknown_option(const std::vector<std::string>& arguments, std::string_view message,
                           std::span<const std::string_view> known) {
  for (const std::string& argument : arguments) {
    if (argument.size() > 2 && argument.starts_with("--")) {
      const std::string name = argument.substr(2, argument.find('=') - 2);
      const bool is_known = std::find(known.begin(), known.end(), name) != known.end();
      if (!is_known && message.find(name) != std::string_view::npos) {
        return name;
      }
    }
  }
  return {};
}

Status option_error(const Program& program, const Command& command, const cxxopts::Options& options,
                    const std::vector<std::string>& arguments, std::string_view message) {
  std::vector<std::string_view> known;
  const auto& described = options.group_help("").options;
  for (const cxxopts::HelpOptionDetails& option : described) {
    known.insert(known.end(), option.l.begin(), option.l.end());
  }
  const std::string unknown = unknown_option(arguments, message, known);
  if (unknown.empty()) {
    return usage_error("{}; see '{} {} --help'", message, program.name, command.name);
  }
  const std::string_view near = nearest(unknown, known);
  return usage_error("unknown option '--{}'{}; see '{} {} --help'", unknown,
                     near.empty() ? "" : fmt::format("; did you mean '--{}'?", near), program.name,
                     command.name);
}

Status run_command(const Program& program, const Command& command, int argc, char** argv) {
  cxxopts::Options options(fmt::format("{} {}", program.name, command.name),
                           command.summary ? command.summary : "");
  options.custom_help("[OPTIONS]").positional_help(command.positional);
  std::vector<std::string> positionals;
  command.declare(options, positionals);
  options.add_options()("h,help", "Show this help");
  options.parse_positional(positionals);
  const std::vector<std::string> words =
      separate_short_options(options, std::vector<std::string>(argv + 1, argv + argc));
  std::vector<const char*> parsed = {argv[0]};
  for (const std::string& word : words) {
    parsed.push_back(word.c_str());
  }
  try {
    const cxxopts::ParseResult arguments =
        options.parse(static_cast<int>(parsed.size()), parsed.data());
    if (arguments.count("help") > 0) {
      fmt::print("{}\n", options.help());
      return {};
    }
    if (!arguments.unmatched().empty()) {
      return usage_error("unexpected argument '{}'; see '{} {} --help'",
                         arguments.unmatched().front(), program.name, command.name);
    }
    return command.run(arguments);
  } catch (const cxxopts::exceptions::exception& error) {
    return option_error(program, command, options, words, error.what());
  }
}

Status dispatch(const Program& program, int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first.empty()) {
    print_overview(program);
    return usage_error("expected a command, found none");
  }
  if (first == "--help" || first == "-h" || first == "help") {
    print_overview(program);
    return {};
  }
  if (first == "--version" || first == "-V") {
    print_version(program);
    return {};
  }
  if (const Command* command = find_command(program, first)) {
    return run_command(program, *command, argc - 1, argv + 1);
  }
  return unknown_command(program, first);
}

// Names of files, and texts, may contain any bytes.
std::string on_one_line(std::string message) {
  for (char& c : message) {
    const auto byte = static_cast<unsigned char>(c);
    c = byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  return message;
}

}  // namespace

int run_program(const Program& program, int argc, char** argv) {
  install_signal_handlers();
  Status status;
  try {
    status = dispatch(program, argc, argv);
  } catch (const std::bad_alloc&) {
    status = failed("out of memory");
  } catch (const std::exception& error) {
    status = failed("{}", error.what());
  }
  if (status.ok() && (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)) {
    status = failed("cannot write the results to stdout");
  }
  if (!status.ok()) {
    std::fflush(stdout);
    fmt::print(stderr, "{}: error: {}\n", program.name, on_one_line(status.message()));
  }
  return static_cast<int>(status.code());
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
