#include "tests/cli/run.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/support/support.h"

namespace rwkv::test {

std::string executable(const std::string& name) {
  return std::string(RWKV_BIN_DIR) + "/" + name;
}

namespace {

std::string text_of(const std::string& path) {
  const auto bytes = read_bytes(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

[[noreturn]] void become(const std::string& program, const std::vector<std::string>& arguments,
                         unsigned long file_limit, const std::string& out, const std::string& err) {
  const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::dup2(out_fd, STDOUT_FILENO);
  ::dup2(err_fd, STDERR_FILENO);
  if (file_limit > 0) {
    const rlimit limit = {file_limit, file_limit};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  const std::string path = program.starts_with('/') ? program : executable(program);
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  ::execv(path.c_str(), argv.data());
  ::_exit(127);
}

}  // namespace

RunResult run(const std::string& program, const std::vector<std::string>& arguments,
              unsigned long file_limit) {
  const ScratchFolder scratch;
  const std::string out = scratch.file("out");
  const std::string err = scratch.file("err");
  const pid_t child = ::fork();
  if (child < 0) {
    throw std::runtime_error("cannot fork");
  }
  if (child == 0) {
    become(program, arguments, file_limit, out, err);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  RunResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.out = text_of(out);
  result.err = text_of(err);
  return result;
}

}  // namespace rwkv::test
