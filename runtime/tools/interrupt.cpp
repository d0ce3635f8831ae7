#include "runtime/tools/interrupt.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>

namespace rwkv::edge {
namespace {

volatile std::sig_atomic_t requests = 0;
volatile std::sig_atomic_t ends_at_second_request = 0;
struct sigaction before = {};

void take_request(int signal) {
  requests = 1 + (requests != 0 ? 1 : 0);
  if (requests > 1 && ends_at_second_request != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
}

}  // namespace

CatchInterrupts::CatchInterrupts(bool ends_at_second) {
  requests = 0;
  ends_at_second_request = ends_at_second ? 1 : 0;
  struct sigaction action = {};
  action.sa_handler = take_request;
  sigemptyset(&action.sa_mask);
  // Without SA_RESTART, so that reading from a terminal ends.
  ::sigaction(SIGINT, &action, &before);
}

CatchInterrupts::~CatchInterrupts() {
  ::sigaction(SIGINT, &before, nullptr);
}

bool CatchInterrupts::requested() {
  return requests != 0;
}

void CatchInterrupts::clear() {
  requests = 0;
}

void CatchInterrupts::end_program() {
  std::fflush(stdout);
  std::signal(SIGINT, SIG_DFL);
  std::raise(SIGINT);
  ::_exit(128 + SIGINT);
}

}  // namespace rwkv::edge
