// The recurrences of v5 to v7: every kernel set that runs here against the generic one.
#include <vector>

#include "runtime/kernels/kernels.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::edge;
using Floats = std::vector<float>;

namespace {

Floats random_vector(size_t n, uint64_t seed) {
  Floats x(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = test::noise(seed, i);
  }
  return x;
}

// What three tokens leave of a head of `n` channels.
struct Head {
  Floats state;
  Floats out;
};
Head run_head(const KernelSet& set, size_t n, bool is_v7) {
  constexpr size_t kTokens = 3;
  const Floats r = random_vector(kTokens * n, 1);
  const Floats k = random_vector(kTokens * n, 2);
  const Floats v = random_vector(kTokens * n, 3);
  const Floats w = random_vector(kTokens * n, 4);
  const Floats u = random_vector(n, 5);
  const Floats kk = random_vector(kTokens * n, 6);
  const Floats kka = random_vector(kTokens * n, 7);
  Head head = {random_vector(n * n, 8), Floats(kTokens * n)};
  const WkvHeadArgs args = {
      r.data(),        k.data(), v.data(), w.data(), u.data(), head.state.data(),
      head.out.data(), n,        kTokens,  n,        n};
  if (is_v7) {
    set.wkv_v7({args, kk.data(), kka.data()});
  } else {
    set.wkv_v5(args);
  }
  return head;
}

void require_close(const Floats& found, const Floats& expected) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    REQUIRE(found[i] == Approx(expected[i]).margin(1e-4).epsilon(1e-5));
  }
}

}  // namespace

TEST_CASE("wkv of every kernel set is that of the generic one", "[kernels]") {
  for (const KernelSet* set : kernel_list()) {
    if (!set->runs_here()) {
      continue;
    }
    for (const size_t n : {4, 8, 20, 64}) {
      for (const bool is_v7 : {false, true}) {
        CAPTURE(set->name, n, is_v7);
        const Head expected = run_head(*kernel_list().front(), n, is_v7);
        const Head found = run_head(*set, n, is_v7);
        require_close(found.out, expected.out);
        require_close(found.state, expected.state);
      }
    }
  }
}
