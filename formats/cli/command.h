// Shared by both executables: commands with their options, help and version, exit codes, and a
// clean end on Ctrl-C. Results go to stdout, everything else to stderr.
#pragma once

#include <cxxopts.hpp>
#include <span>
#include <string>

#include "formats/base/status.h"

namespace rwkv::cli {

struct Command {
  const char* name;
  const char* positional;  ///< for the usage line: "INPUT -o OUT.gguf"
  const char* summary;     ///< one line for the list of commands; nullptr: not listed
  /// Declares the options; names given to `positionals` are filled in order.
  void (*declare)(cxxopts::Options& options, std::vector<std::string>& positionals);
  Status (*run)(const cxxopts::ParseResult& arguments);
};

struct Program {
  const char* name;
  const char* summary;
  std::span<const Command> commands;
  /// Words that may stand in place of a command, for the usage line; nullptr: none.
  const char* usage = nullptr;
  /// The name of the command that words without a command mean, or nothing; nullptr: none.
  std::string_view (*command_of)(std::span<const std::string> words) = nullptr;
};

/// Runs the command in argv and returns the exit code (see rwkv::Code).
int run_program(const Program& program, int argc, char** argv);

/// The value of a required option, or a usage error that names it.
Result<std::string> required(const cxxopts::ParseResult& arguments, const std::string& name);

/// The value of a numeric option within [low, high], or a usage error with the range.
Result<int64_t> integer(const cxxopts::ParseResult& arguments, const std::string& name, int64_t low,
                        int64_t high);
Result<double> real(const cxxopts::ParseResult& arguments, const std::string& name, double low,
                    double high);
/// The value of an option that is a size (formats/base/byte_size.h), `otherwise` if it is not
/// given.
Result<uint64_t> byte_size(const cxxopts::ParseResult& arguments, const std::string& name,
                           uint64_t otherwise);

/// Usage if `output` is a file that one of the options `inputs` names, through links too: replacing
/// what is being read destroys it.
Status refuse_own_input(const cxxopts::ParseResult& arguments, const std::string& output,
                        std::span<const char* const> inputs);

/// True if nobody reads the other end of standard output any more, as after `| head`. That ends a
/// program, but it is no error.
bool reader_has_gone();

/// "1.5 GB", "312.0 kB": decimal units, as devices are sold.
std::string human_bytes(uint64_t bytes);

}  // namespace rwkv::cli
