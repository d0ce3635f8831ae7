// 16-bit floats against arithmetic in double: every half value, and floats at and around every
// point where the rounding turns.
#include "formats/base/half.h"

#include <cmath>
#include <limits>
#include <string>

#include "tests/support/catch.h"

namespace rwkv {
namespace {

// A 16-bit format, and its rounding done the slow way: scale so that one unit is the last place,
// round to nearest even in double, where everything involved is exact.
struct Half {
  const char* name;
  float (*to_f32)(uint16_t);
  uint16_t (*from_f32)(float);
  int mantissa_bits;
  int min_exponent;  // of normal numbers
  int max_exponent;

  uint16_t infinity() const {
    return static_cast<uint16_t>(0x7fffu >> mantissa_bits << mantissa_bits);
  }
  double round(double value) const {
    const double magnitude = std::fabs(value);
    if (magnitude == 0 || std::isinf(magnitude)) {
      return value;
    }
    const int exponent = std::max(std::ilogb(magnitude), min_exponent);
    const double unit = std::ldexp(1.0, exponent - mantissa_bits);
    const double rounded = std::nearbyint(magnitude / unit) * unit;
    const double limit = std::ldexp(1.0, max_exponent + 1);
    return std::copysign(rounded >= limit ? std::numeric_limits<double>::infinity() : rounded,
                         value);
  }
  double decode(uint16_t bits) const {
    const int exponent = (bits & 0x7fff) >> mantissa_bits;
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    const int implied = exponent == 0 ? 0 : 1 << mantissa_bits;
    const double magnitude =
        std::ldexp(implied + mantissa, std::max(exponent, 1) - 1 + min_exponent - mantissa_bits);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
  }
};

constexpr Half kF16 = {"f16", f16_to_f32, f32_to_f16, 10, -14, 15};
constexpr Half kBf16 = {"bf16", bf16_to_f32, f32_to_bf16, 7, -126, 127};

bool same(double a, double b) {
  return a == b && std::signbit(a) == std::signbit(b);
}

// Assertions of their own for millions of values would take minutes, so failures are collected.
class Failures {
 public:
  void check(bool good, uint32_t bits) {
    if (!good && n_++ == 0) {
      first_ = bits;
    }
  }
  void require_none() const {
    INFO(n_ << " wrong, the first for the bits " << first_);
    REQUIRE(n_ == 0);
  }

 private:
  uint64_t n_ = 0;
  uint32_t first_ = 0;
};

}  // namespace

TEST_CASE("Half floats: every value converts to the float that it is, and back") {
  const Half half = GENERATE(kF16, kBf16);
  INFO(half.name);
  Failures failures;
  for (uint32_t i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float value = half.to_f32(bits);
    const bool is_nan = (bits & 0x7fff) > half.infinity();
    if (is_nan) {
      const uint16_t back = half.from_f32(value);
      const bool sign_kept = ((back ^ bits) & 0x8000) == 0;
      failures.check(std::isnan(value) && (back & 0x7fff) > half.infinity() && sign_kept, i);
    } else if ((bits & 0x7fff) == half.infinity()) {
      failures.check(std::isinf(value) && std::signbit(value) == (bits > 0x7fff), i);
      failures.check(half.from_f32(value) == bits, i);
    } else {
      failures.check(same(value, half.decode(bits)) && half.from_f32(value) == bits, i);
    }
  }
  failures.require_none();
}

TEST_CASE("Half floats: rounding is to nearest even") {
  const Half half = GENERATE(kF16, kBf16);
  INFO(half.name);
  Failures failures;
  const auto check = [&](float value) {
    const double found = half.to_f32(half.from_f32(value));
    failures.check(same(found, half.round(value)), std::bit_cast<uint32_t>(value));
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // Between every two neighbours: the middle, where ties go to even, and the floats next to it.
  for (uint32_t i = 0; i < half.infinity(); ++i) {
    const double low = half.decode(static_cast<uint16_t>(i));
    const double high = half.decode(static_cast<uint16_t>(i + 1));
    const auto middle = static_cast<float>((low + high) / 2);
    for (const float value : {static_cast<float>(low), std::nextafter(middle, 0.0f), middle,
                              std::nextafter(middle, kInfinity)}) {
      check(value);
      check(-value);
    }
  }
  // And floats all over, subnormal ones too; the step is a prime.
  for (uint64_t bits = 0; bits < 0x7f800000u; bits += 1021) {
    check(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    check(std::bit_cast<float>(static_cast<uint32_t>(bits | 0x80000000u)));
  }
  failures.require_none();
}

TEST_CASE("Half floats: limits") {
  REQUIRE(f32_to_f16(65504.0f) == 0x7bff);
  REQUIRE(f32_to_f16(std::nextafter(65520.0f, 0.0f)) == 0x7bff);
  REQUIRE(f32_to_f16(65520.0f) == 0x7c00);
  REQUIRE(f32_to_f16(-65520.0f) == 0xfc00);
  REQUIRE(f32_to_f16(0x1p-24f) == 0x0001);
  REQUIRE(f32_to_f16(0x1p-25f) == 0x0000);  // a tie, to even
  REQUIRE(f32_to_f16(-0.0f) == 0x8000);
  REQUIRE(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  // A NaN whose payload lies only in the bits that are cut off must not become infinity.
  REQUIRE(f32_to_bf16(std::bit_cast<float>(0x7f800001u)) == 0x7fc0);
  REQUIRE(f32_to_f16(std::bit_cast<float>(0xff800001u)) == 0xfe00);
}

}  // namespace rwkv
