#include "runtime/tools/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

namespace rwkv::edge {
namespace {

volatile std::sig_atomic_t requests = 0;
volatile std::sig_atomic_t ends_at_second_request = 0;
struct sigaction before = {};
// Any thread may get the signal, so the one that waits for input is woken by a byte in a pipe.
int wake_up[2] = {-1, -1};

void take_request(int signal) {
  requests = 1 + (requests != 0 ? 1 : 0);
  if (requests > 1 && ends_at_second_request != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  const int error = errno;
  if (wake_up[1] >= 0) {
    static_cast<void>(!::write(wake_up[1], "", 1));
  }
  errno = error;
}

}  // namespace

CatchInterrupts::CatchInterrupts(bool ends_at_second) {
  requests = 0;
  if (wake_up[0] < 0 && ::pipe2(wake_up, O_CLOEXEC | O_NONBLOCK) != 0) {
    wake_up[0] = wake_up[1] = -1;  // a request is then noticed with the next key
  }
  ends_at_second_request = ends_at_second ? 1 : 0;
  struct sigaction action = {};
  action.sa_handler = take_request;
  sigemptyset(&action.sa_mask);
  // A write to a slow terminal goes on: failing, it would end the program as a closed output does.
  // Waiting for input ends in any case, since poll() is never restarted.
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, &before);
}

CatchInterrupts::~CatchInterrupts() {
  ::sigaction(SIGINT, &before, nullptr);
}

bool CatchInterrupts::requested() {
  return requests != 0;
}

void CatchInterrupts::clear() {
  char byte = 0;
  while (wake_up[0] >= 0 && ::read(wake_up[0], &byte, 1) == 1) {
  }
  requests = 0;
}

void CatchInterrupts::wait_for_input() {
  pollfd inputs[] = {{STDIN_FILENO, POLLIN, 0}, {wake_up[0], POLLIN, 0}};
  if (!requested()) {
    ::poll(inputs, wake_up[0] >= 0 ? 2 : 1, -1);
  }
}

void CatchInterrupts::end_program() {
  std::fflush(stdout);
  std::signal(SIGINT, SIG_DFL);
  std::raise(SIGINT);
  ::_exit(128 + SIGINT);
}

}  // namespace rwkv::edge
