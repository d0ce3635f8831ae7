// RWKVQuant's proxies against their formulas and against known distributions, and the choices that
// follow from proxies, from losses and from a number of bytes.
#include <cmath>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/numerics/tensor_random.h"
#include "compressor/selectors/choice.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;
using press::Selector;

namespace {

press::Proxies of(const at::Tensor& values) {
  const at::Tensor flat = values.to(at::kFloat).contiguous();
  return press::proxies_of({flat.data_ptr<float>(), static_cast<size_t>(flat.numel())});
}

// Matrices with these proxies (coarse, fine, crest), all candidates of 100 bytes.
std::vector<press::SelectorInput> matrices(const std::vector<std::array<double, 3>>& proxies) {
  std::vector<press::SelectorInput> result;
  for (const auto& [coarse, fine, crest] : proxies) {
    press::SelectorInput matrix;
    matrix.proxies.literal = {coarse, fine};
    matrix.proxies.unique = {-coarse, -fine};
    matrix.proxies.crest = crest;
    matrix.scalar.bytes = matrix.codebook.bytes = 100;
    result.push_back(matrix);
  }
  return result;
}

std::vector<bool> chosen(const std::vector<press::SelectorInput>& list,
                         const press::SelectorRule& rule) {
  const auto result = press::choose_codebooks(list, rule);
  REQUIRE_OK(result.status());
  return result.value();
}

}  // namespace

TEST_CASE("Proxies of a few weights are those of their formulas", "[selectors]") {
  // Gaps 1, 1, 2 of weights in any order.
  const press::Proxies few = of(at::tensor({3.0, 1.0, 5.0, 2.0}));
  CHECK(few.literal.coarse == Approx(std::log(3.0) + 0.5 * std::log(0.25) + 0.5 * std::log(0.5)));
  // n p - 1: -1/4, -1/4, 1/2.
  const double squares = (1.0 / 16 + 1.0 / 16 + 1.0 / 4) / 3;
  const double cubes = (-1.0 / 64 - 1.0 / 64 + 1.0 / 8) / 3;
  const double fourths = (1.0 / 256 + 1.0 / 256 + 1.0 / 16) / 3;
  CHECK(few.literal.fine == Approx(squares / 2 + cubes / 6 + fourths / 12));
  // Each size of gap once: 1 and 2.
  CHECK(few.unique.coarse ==
        Approx(std::log(2.0) + std::log(1.0 / 3) / 3 + 2 * std::log(2.0 / 3) / 3));
  CHECK(few.crest == Approx(5 / std::sqrt(39.0 / 4)));
}

TEST_CASE("Even spacing has proxies of zero, and so has a single value", "[selectors]") {
  const press::Proxies even = of(at::arange(256));
  CHECK(even.literal.coarse == Approx(0.0).margin(1e-12));
  CHECK(even.literal.fine == Approx(0.0).margin(1e-12));
  CHECK(even.unique.coarse == 0.0);  // one size of gap
  const press::Proxies same = of(at::full({64}, 0.25));
  CHECK(same.literal.coarse == 0.0);
  CHECK(same.literal.fine == 0.0);
  CHECK(same.crest == Approx(1.0));
  CHECK(of(at::zeros({64})).crest == 0.0);
  CHECK(of(at::zeros({1})).literal.coarse == 0.0);
}

TEST_CASE("Proxies of known distributions", "[selectors]") {
  const at::Generator random = press::tensor_random(3);
  // Gaps of uniform weights are exponentially distributed: 1 - Euler's constant, and 19 / 12.
  const press::Proxies uniform = of(at::rand({200'000}, random, at::kDouble) - 0.5);
  CHECK(uniform.literal.coarse == Approx(0.4228).margin(0.02));
  CHECK(uniform.literal.fine == Approx(1.583).margin(0.2));
  // In half floats most gaps are 0 or one step of the format; and outliers are far.
  const at::Tensor normal = 0.02 * at::randn({200'000}, random, at::kDouble);
  const press::Proxies halves = of(normal.to(at::kHalf));
  CHECK(halves.literal.coarse > 3.0);
  CHECK(halves.literal.fine > 1e6);
  CHECK(halves.unique.coarse < 2.0);
  const at::Tensor outliers = normal.clone();
  outliers.narrow(0, 0, 20).mul_(20);
  const press::Proxies far = of(outliers.to(at::kHalf));
  CHECK(far.literal.coarse > halves.literal.coarse);
  CHECK(far.literal.fine > halves.literal.fine);
  CHECK(far.crest > 2 * halves.crest);
}

TEST_CASE("Thresholds by rank: scalar are those below both", "[selectors]") {
  const auto list = matrices(
      {{1, 9, 5}, {2, 1, 4}, {3, 2, 3}, {4, 3, 2}, {5, 0, 1}, {6, 0, 6}, {7, 0, 7}, {8, 0, 8}});
  // The lowest half by the coarse proxy are the first four; of those, half by the fine one.
  CHECK((chosen(list, {Selector::Proxy, 0.5, 0.5, 0}) ==
         std::vector<bool>{true, false, false, true, true, true, true, true}));
  CHECK((chosen(list, {Selector::Proxy, 1, 1, 0}) == std::vector<bool>(8, false)));
  CHECK((chosen(list, {Selector::Proxy, 0, 1, 0}) == std::vector<bool>(8, true)));
  CHECK((chosen(list, {Selector::Proxy, 1, 0, 0}) == std::vector<bool>(8, true)));
  // The other variant has the opposite order here.
  CHECK((chosen(list, {Selector::ProxyUnique, 0.5, 1, 0}) ==
         std::vector<bool>{true, true, true, true, false, false, false, false}));
  CHECK((chosen(list, {Selector::Crest, 0.5, 0, 0}) ==
         std::vector<bool>{true, false, false, false, false, true, true, true}));
  // Equal values are ranked as they come.
  CHECK((chosen(matrices({{1, 1, 1}, {1, 1, 1}}), {Selector::Proxy, 0.5, 1, 0}) ==
         std::vector<bool>{false, true}));
}

TEST_CASE("Losses: whichever is less, and the budget goes where it saves most", "[selectors]") {
  auto list = matrices({{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}});
  const double scalar[] = {1.0, 2.0, 0.5, 4.0};
  const double codebook[] = {0.9, 1.0, 0.6, 1.0};
  for (size_t i = 0; i < list.size(); ++i) {
    list[i].scalar.loss = scalar[i];
    list[i].codebook.loss = codebook[i];
    list[i].codebook.bytes = 110;
  }
  CHECK((chosen(list, {Selector::Kl, 0, 0, 0}) == std::vector<bool>{true, true, false, true}));
  CHECK((chosen(list, {Selector::Kl, 0, 0, 420}) == std::vector<bool>{false, true, false, true}));
  CHECK((chosen(list, {Selector::Kl, 0, 0, 419}) == std::vector<bool>{false, false, false, true}));
  CHECK((chosen(list, {Selector::Kl, 0, 0, 400}) == std::vector<bool>(4, false)));
  const auto refused = press::choose_codebooks(list, {Selector::Kl, 0, 0, 399});
  CHECK(refused.status().code() == Code::Usage);
  CHECK_THAT(refused.status().message(), Catch::Contains("expected at least 400 bytes"));
  // A codebook that takes less costs nothing; then the scalar is what the budget is for.
  for (press::SelectorInput& matrix : list) {
    matrix.codebook.bytes = 90;
  }
  CHECK((chosen(list, {Selector::Kl, 0, 0, 370}) == std::vector<bool>{true, true, false, true}));
  CHECK((chosen(list, {Selector::Kl, 0, 0, 360}) == std::vector<bool>(4, true)));
}

TEST_CASE("Rank correlation", "[selectors]") {
  const std::vector<double> up = {1, 2, 30, 400};
  const std::vector<double> down = {4, 3, 2, -9};
  CHECK(press::rank_correlation(up, up) == Approx(1.0));
  CHECK(press::rank_correlation(up, down) == Approx(-1.0));
  CHECK(press::rank_correlation(up, std::vector<double>(4, 2.0)) == 0.0);
  // Ranks 0, 1, 2, 3 and 0.5, 0.5, 3, 2: 1 - 6 * sum d^2 / (n (n^2 - 1)), corrected for the tie.
  const std::vector<double> tied = {1, 1, 9, 5};
  CHECK(press::rank_correlation(up, tied) == Approx(3.5 / std::sqrt(5.0 * 4.5)));
}
