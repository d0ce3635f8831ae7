#include "tests/cli/checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/support/catch.h"

namespace rwkv::test {

void check_refused(const std::string& program, const std::vector<std::string>& arguments,
                   int exit_code, const std::string& says, unsigned long file_limit) {
  const RunResult result = run(program, arguments, file_limit);
  INFO(program << " " << fmt::format("{}", fmt::join(arguments, " ")) << "\n" << result.err);
  CHECK(result.signal == 0);
  CHECK(result.exit_code == exit_code);
  const size_t at = result.err.find(program + ": error: ");
  REQUIRE(at != std::string::npos);
  CHECK(result.err.find('\n', at) == result.err.size() - 1);
  CHECK_THAT(result.err, Catch::Contains(says));
}

std::string output_of(const std::string& program, const std::vector<std::string>& arguments) {
  const RunResult result = run(program, arguments);
  INFO(program << " " << fmt::format("{}", fmt::join(arguments, " ")) << "\n" << result.err);
  REQUIRE(result.exit_code == 0);
  return result.out;
}

}  // namespace rwkv::test
