#include "tests/cli/fault_server.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <stdexcept>

namespace rwkv::test {

namespace {

constexpr unsigned kSeconds = 120;  // no run takes nearly as long

std::string text_of(const std::string& path) {
  const auto bytes = read_bytes(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

FaultServer::FaultServer(const std::string& program, const std::string& folder) {
  const std::string path = scratch_.file("plan");
  write_bytes(path, std::vector<std::byte>(sizeof(FaultPlan)));
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  void* const memory =
      ::mmap(nullptr, sizeof(FaultPlan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  int requests[2] = {};
  int answers[2] = {};
  if (memory == MAP_FAILED || ::pipe2(requests, O_CLOEXEC) != 0 ||
      ::pipe2(answers, O_CLOEXEC) != 0 || folder.size() >= sizeof(FaultPlan::folder)) {
    throw std::runtime_error("cannot prepare the fault injector");
  }
  plan_ = static_cast<FaultPlan*>(memory);
  std::memcpy(plan_->folder, folder.c_str(), folder.size() + 1);
  expect(Fault::None);
  pid_ = ::fork();
  if (pid_ == 0) {
    // Clear of the descriptors that the program uses.
    const int in = ::fcntl(requests[0], F_DUPFD, 100);
    const int out = ::fcntl(answers[1], F_DUPFD, 100);
    ::setenv("LD_PRELOAD", RWKV_FAULT_INJECTOR, 1);
    ::setenv(kPlanVariable, path.c_str(), 1);
    ::setenv(kServerVariable, fmt::format("{},{}", in, out).c_str(), 1);
    ::setenv("RWKV_PRESS_THREADS", "1", 1);
    ::setenv("OMP_NUM_THREADS", "1", 1);
    const std::string name = executable(program);
    ::execl(name.c_str(), name.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  ::close(requests[0]);
  ::close(answers[1]);
  to_ = requests[1];
  from_ = answers[0];
}

FaultServer::~FaultServer() {
  ::close(to_);  // the server ends when it reads the end
  ::close(from_);
  ::waitpid(pid_, nullptr, 0);
  ::munmap(plan_, sizeof(FaultPlan));
}

void FaultServer::expect(Fault fault, Call call, int64_t at, int error) {
  plan_->fault = fault;
  plan_->call = call;
  plan_->at = at;
  plan_->error = error;
  plan_->room = -1;
  plan_->n_struck = 0;
  plan_->struck[0] = '\0';
  for (auto& count : plan_->counts) {
    count = 0;
  }
}

void FaultServer::expect_room(int64_t n_bytes) {
  expect(Fault::None);
  plan_->room = n_bytes;
}

RunResult FaultServer::run(const std::vector<std::string>& arguments) {
  const std::string out = scratch_.file("out");
  const std::string err = scratch_.file("err");
  std::string strings = out + '\0' + err + '\0';
  for (const std::string& argument : arguments) {
    strings += argument + '\0';
  }
  const ServerRequest request = {static_cast<uint32_t>(strings.size()), kSeconds};
  int status = 0;
  if (::write(to_, &request, sizeof(request)) != sizeof(request) ||
      ::write(to_, strings.data(), strings.size()) != static_cast<ssize_t>(strings.size()) ||
      ::read(from_, &status, sizeof(status)) != sizeof(status)) {
    throw std::runtime_error("the server of the fault injector has gone");
  }
  RunResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  result.out = text_of(out);
  result.err = text_of(err);
  return result;
}

}  // namespace rwkv::test
