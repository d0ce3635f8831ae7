// Runs one of our executables again and again under the fault injector, from a process that has
// loaded it once.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/cli/run.h"
#include "tests/support/fault_injector.h"
#include "tests/support/support.h"

namespace rwkv::test {

class FaultServer {
 public:
  /// Calls on files in `folder` are counted. The server ends with the object.
  FaultServer(const std::string& program, const std::string& folder);
  ~FaultServer();
  FaultServer(const FaultServer&) = delete;
  FaultServer& operator=(const FaultServer&) = delete;

  /// What the next run will meet. Everything counts from 0 again.
  void expect(Fault fault, Call call = Call::Open, int64_t at = -1, int error = 0);
  /// The next run finds room for so many bytes.
  void expect_room(int64_t n_bytes);
  /// Of the last run.
  int64_t count(Call call) const { return plan_->counts[static_cast<int>(call)].load(); }
  const FaultPlan& plan() const { return *plan_; }

  /// Signal SIGALRM: it did not end.
  RunResult run(const std::vector<std::string>& arguments);

 private:
  ScratchFolder scratch_;
  FaultPlan* plan_ = nullptr;
  pid_t pid_ = 0;
  int to_ = -1;
  int from_ = -1;
};

}  // namespace rwkv::test
