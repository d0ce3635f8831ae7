// Values that no tensor may hold are named, wherever they are.
#include "formats/arch/finite.h"

#include <limits>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {

using Catch::Contains;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_CASE("Values that are none are refused with their place and what to do", "[finite]") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    std::vector<float> values(35, -3.4e38f);
    REQUIRE_OK(check_values("blocks.1.ln1.weight", values, 5));
    values[13] = bad;
    values[20] = bad;
    const Status status = check_values("blocks.1.ln1.weight", values, 5, 100);
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains("'blocks.1.ln1.weight': row 102, column 3 holds") &&
                                     Contains("original checkpoint"));
  }
}

TEST_CASE("Decays and bonuses may be infinite, but are numbers", "[finite]") {
  std::vector<float> values = {kInfinity, 1.0f, -kInfinity};
  for (const char* name :
       {"blocks.0.att.time_decay", "blocks.0.att.time_first", "blocks.0.att.time_faaaa"}) {
    CHECK(check_values(name, values, 3).ok());
  }
  CHECK_FALSE(check_values("blocks.0.att.time_decay_w1", values, 3).ok());
  values[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(check_values("blocks.0.att.time_decay", values, 3).ok());
}

TEST_CASE("Values that are none are found in every codec's bytes", "[finite]") {
  constexpr uint64_t kRows = 3000, kCols = 100;  // more than is decoded at a time
  std::vector<float> values(kRows * kCols, 0.5f);
  for (const CodecTraits& codec : codec_list()) {
    if (codec.for_predictors) {
      continue;
    }
    std::vector<std::byte> bytes(codec.encoded_bytes(kRows, kCols));
    REQUIRE_OK(codec.encode(values, {kRows, kCols}, bytes));
    const MatrixView w = MatrixView::of(bytes.data(), codec.codec, kRows, kCols);
    CHECK(check_values("head.weight", w).ok());
    // The bytes of a NaN in f32 and in f16, in values and in scales. Row 2999 is row 7 of a tile.
    const uint64_t row = codec.shared_bytes(kCols) +
                         2999 / codec.unit_rows * codec.unit_bytes(kCols) +
                         2999 % codec.unit_rows * sizeof(float);
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(row), 4, std::byte{0xff});
    const Status status = check_values("head.weight", w);
    INFO(codec.name);
    REQUIRE(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains("row 2999"));
  }
}

}  // namespace rwkv
