// rwkv-press limits how long OpenMP's threads spin, for itself and its children, unless the user
// did. With OMP_DISPLAY_ENV OpenMP's library says what it took from the environment.
#include <filesystem>
#include <string>

#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;

namespace {

// `program` with these variables, and with none that the tests themselves were started with.
RunResult run_with(const std::string& variables, const std::string& program,
                   const std::string& arguments) {
  return run("/bin/sh", {"-c", "exec env -u GOMP_SPINCOUNT -u OMP_WAIT_POLICY " + variables + " " +
                                   program + " " + arguments});
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++n;
  }
  return n;
}

}  // namespace

TEST_CASE("rwkv-press limits spinning, and starts its libraries once", "[cli]") {
  const RunResult result =
      run_with("OMP_DISPLAY_ENV=VERBOSE", executable("rwkv-press"), "--version");
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.err, Contains("GOMP_SPINCOUNT = '10000'"));
  CHECK(count(result.err, "OPENMP DISPLAY ENVIRONMENT BEGIN") == 1);
  CHECK(count(result.out, "rwkv-press ") == 1);
}

TEST_CASE("What the user says about spinning holds", "[cli]") {
  const std::string press = executable("rwkv-press");
  const RunResult counted =
      run_with("OMP_DISPLAY_ENV=VERBOSE GOMP_SPINCOUNT=77", press, "--version");
  CHECK_THAT(counted.err, Contains("GOMP_SPINCOUNT = '77'"));
  const RunResult passive =
      run_with("OMP_DISPLAY_ENV=VERBOSE OMP_WAIT_POLICY=passive", press, "--version");
  CHECK_THAT(passive.err, Contains("GOMP_SPINCOUNT = '0'"));
}

TEST_CASE("Arguments, names and exit codes survive the new start", "[cli]") {
  const ScratchFolder scratch;
  const std::string press = executable("rwkv-press");
  const RunResult wrong = run_with("", press, "convert 'two  words' --no-such-option ''");
  CHECK(wrong.exit_code == 2);
  CHECK_THAT(wrong.err, Contains("no-such-option"));
  std::filesystem::create_symlink(press, scratch.path() / "another-name");
  CHECK(run_with("PATH=" + scratch.path().string() + ":/usr/bin:/bin", "another-name", "--version")
            .exit_code == 0);
  // Where there is nothing but the program, too: it was named by a file, not by a path to search.
  CHECK(run("/bin/sh", {"-c", "exec env -i " + press + " --version"}).exit_code == 0);
}

TEST_CASE("Children of rwkv-press limit spinning too", "[cli]") {
  const ScratchFolder scratch;
  const std::string press = executable("rwkv-press");
  const std::string model = scratch.file("m.pth");
  REQUIRE(run(press, {"synth", "--arch", "v5.2", "--n-layer", "1", "--n-embd", "64", "--n-vocab",
                      "256", "--quiet", "-o", model})
              .exit_code == 0);
  const std::string seen = scratch.file("seen");
  const std::string recipe = scratch.file("r.yaml");
  write_text(recipe, "name: asks\nstages:\n  - external: {command: \"printenv GOMP_SPINCOUNT > " +
                         seen + "; cat /proc/$PPID/comm >> " + seen + "; cp {input} {output}\"}\n");
  const RunResult result = run_with("", press,
                                    "convert " + model + " -o " + scratch.file("m.gguf") +
                                        " --recipe " + recipe + " --vocab bytes --quiet");
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const std::vector<std::byte> bytes = read_bytes(seen);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  CHECK(text == "10000\nrwkv-press\n");
}
