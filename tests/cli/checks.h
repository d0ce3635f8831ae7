// What tests of the executables check again and again.
#pragma once

#include <string>
#include <vector>

#include "tests/cli/run.h"

namespace rwkv::test {

/// One line on stderr that begins as documented and contains `says`, the exit code, no crash.
void check_refused(const std::string& program, const std::vector<std::string>& arguments,
                   int exit_code, const std::string& says, unsigned long file_limit = 0);

/// What a program that must succeed prints on stdout.
std::string output_of(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace rwkv::test
