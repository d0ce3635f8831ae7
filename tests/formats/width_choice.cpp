// choose_widths(): against the best choice of all, by trying every number of bytes.
#include "formats/container/width_choice.h"

#include <algorithm>
#include <limits>
#include <random>

#include "tests/support/catch.h"

namespace rwkv {
namespace {

using Pieces = std::vector<std::vector<WidthOption>>;

std::vector<uint32_t> choose(const Pieces& pieces, uint64_t budget) {
  return choose_widths(std::vector<WidthOptions>(pieces.begin(), pieces.end()), budget);
}

WidthOption sum_of(const Pieces& pieces, const std::vector<uint32_t>& chosen) {
  WidthOption sum;
  for (size_t i = 0; i < pieces.size(); ++i) {
    sum.bytes += pieces[i][chosen[i]].bytes;
    sum.loss += pieces[i][chosen[i]].loss;
  }
  return sum;
}

// The least loss within each number of bytes up to `most`, exactly.
std::vector<double> least_losses(const Pieces& pieces, uint64_t most) {
  std::vector<double> best(most + 1, 0.0);
  for (const auto& options : pieces) {
    std::vector<double> next(most + 1, std::numeric_limits<double>::infinity());
    for (const WidthOption& option : options) {
      for (uint64_t bytes = option.bytes; bytes <= most; ++bytes) {
        next[bytes] = std::min(next[bytes], best[bytes - option.bytes] + option.loss);
      }
    }
    best = std::move(next);
  }
  return best;
}

Pieces random_pieces(std::mt19937& random, size_t n) {
  Pieces pieces(n);
  for (auto& options : pieces) {
    const uint64_t unit = 1 + random() % 4;
    double loss = 0;
    for (const uint64_t width : {8, 5, 4, 3}) {
      options.push_back({unit * width, loss});
      // Mostly more for each bit less, as real ones; sometimes not.
      loss = loss * (1.5 + static_cast<double>(random() % 30) / 10) +
             static_cast<double>(1 + random() % 100) * 1e-4;
    }
    std::shuffle(options.begin(), options.end(), random);
  }
  return pieces;
}

double largest_upgrade(const Pieces& pieces) {
  double largest = 0;
  for (const auto& options : pieces) {
    const auto [least, most] = std::minmax_element(
        options.begin(), options.end(),
        [](const WidthOption& a, const WidthOption& b) { return a.loss < b.loss; });
    largest = std::max(largest, most->loss - least->loss);
  }
  return largest;
}

}  // namespace

TEST_CASE("choose_widths is near the best choice, and within the budget") {
  std::mt19937 random(1);
  double gap = 0;
  double all = 0;
  for (int round = 0; round < 200; ++round) {
    const Pieces pieces = random_pieces(random, 2 + random() % 11);
    uint64_t most = 0;
    uint64_t least = 0;
    for (const auto& options : pieces) {
      const auto [few, many] = std::minmax_element(
          options.begin(), options.end(),
          [](const WidthOption& a, const WidthOption& b) { return a.bytes < b.bytes; });
      least += few->bytes;
      most += many->bytes;
    }
    const std::vector<double> best = least_losses(pieces, most);
    for (uint64_t budget = least; budget <= most; ++budget) {
      const WidthOption sum = sum_of(pieces, choose(pieces, budget));
      REQUIRE(sum.bytes <= budget);
      REQUIRE(sum.loss >= best[budget] - 1e-12);
      REQUIRE(sum.loss < best[budget] + largest_upgrade(pieces));
      gap += sum.loss - best[budget];
      all += best[budget];
    }
    CHECK(sum_of(pieces, choose(pieces, most)).loss == Approx(0.0));
  }
  // Few pieces are the hard case: with hundreds, what is left over is nothing.
  CHECK(gap < 0.1 * all);
}

TEST_CASE("choose_widths takes the fewest bytes where the budget is too small") {
  const Pieces pieces = {{{8, 0.0}, {4, 1.0}, {4, 0.5}, {6, 0.5}}, {{3, 2.0}, {9, 0.0}}};
  CHECK(choose(pieces, 0) == std::vector<uint32_t>{2, 0});
  CHECK(choose(pieces, 7) == std::vector<uint32_t>{2, 0});
  CHECK(choose(pieces, 11) == std::vector<uint32_t>{0, 0});  // 6 bytes brings nothing
  CHECK(choose(pieces, 13) == std::vector<uint32_t>{2, 1});  // worth more per byte
  CHECK(choose(pieces, 17) == std::vector<uint32_t>{0, 1});
  CHECK(choose(pieces, UINT64_MAX) == std::vector<uint32_t>{0, 1});
  CHECK(choose({}, 5).empty());
}

TEST_CASE("choose_widths passes over what does not fit") {
  // The first piece's upgrade is worth most and too large; that of the second fits.
  const Pieces pieces = {{{100, 0.0}, {10, 10.0}}, {{12, 0.0}, {10, 0.1}}};
  CHECK(choose(pieces, 25) == std::vector<uint32_t>{1, 0});
}

}  // namespace rwkv
