// main() of the test executables, which ends with the number of cases that lacked test data.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

using ListenerBase = Catch::EventListenerBase;
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

using ListenerBase = Catch::TestEventListenerBase;
#endif
#include <fmt/format.h>

#include "tests/support/support.h"

namespace {

int n_skipped = 0;

class CountSkipped : public ListenerBase {
 public:
  using ListenerBase::ListenerBase;
  void testCaseEnded(const Catch::TestCaseStats&) override {
    n_skipped += rwkv::test::lacked_test_data();
  }
};

}  // namespace

CATCH_REGISTER_LISTENER(CountSkipped)

int main(int argc, char** argv) {
  const int status = Catch::Session().run(argc, argv);
  if (n_skipped > 0) {
    fmt::print("{} cases skipped: no test data\n", n_skipped);
  }
  return status;
}
