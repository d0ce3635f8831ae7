// The commands that write files, as fault injection runs them: a new command is one row.
#pragma once

#include <string>
#include <vector>

namespace rwkv::test {

struct FaultCommand {
  const char* name;
  const char* program;
  /// IN/ and OUT/ stand for the folders of inputs and outputs. --force is added where it applies.
  std::vector<std::string> arguments;
  /// Under OUT: files that a failure must not touch, and whose bytes a rerun must give.
  std::vector<std::string> outputs;
  /// Added for the run after a failure.
  std::vector<std::string> again;
  /// Under IN: what OUT holds before the run; empty: nothing.
  std::string start;
  /// What it leaves besides the outputs when it fails: a work folder, under OUT.
  std::string work;
  bool has_force = true;
  /// Injects into every so many-th call only, unless all are asked for.
  int64_t stride = 1;
};

/// Makes the inputs of all commands in `in`.
void make_fault_inputs(const std::string& in);

const std::vector<FaultCommand>& fault_commands();

}  // namespace rwkv::test
