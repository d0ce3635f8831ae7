// --state and --save-state: the state that texts begin with, and the one that a text ended with.
#include <array>

#include "formats/cli/command.h"
#include "runtime/model/state_file.h"
#include "runtime/text/session.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {

void declare_state_option(cxxopts::Options& options) {
  options.add_options()("state",
                        "State to begin with: saved by --save-state, or a .safetensors file of "
                        "time_state tensors",
                        cxxopts::value<std::string>(), "FILE");
}

void declare_save_state_option(cxxopts::Options& options) {
  options.add_options()("save-state", "File for the state after the text, to go on with --state",
                        cxxopts::value<std::string>(), "FILE");
}

Result<std::string> state_path_from(const cxxopts::ParseResult& arguments) {
  return arguments.count("state") > 0 ? cli::required(arguments, "state")
                                      : Result<std::string>(std::string());
}

Status check_save_state(const cxxopts::ParseResult& arguments) {
  if (arguments.count("save-state") == 0) {
    return {};
  }
  // The state that a text begins with may be replaced by the one that it ends with.
  constexpr std::array kInputs = {"model", "file", "text"};
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "save-state"));
  RWKV_TRY(cli::refuse_own_input(arguments, path, kInputs));
  RWKV_TRY(OutputFile::check(path, OutputFile::Existing::Replace));
  return check_state_file(path);
}

Status save_state_to(const cxxopts::ParseResult& arguments, const Session& session) {
  if (arguments.count("save-state") == 0) {
    return {};
  }
  RWKV_ASSIGN(const std::string path, cli::required(arguments, "save-state"));
  return session.save_state_file(path, OutputFile::Existing::Replace);
}

}  // namespace rwkv::edge
