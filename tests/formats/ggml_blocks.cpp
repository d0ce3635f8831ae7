// Blocks written by hand, from the layouts as ggml documents them, against their decoded values;
// and the dtype list and size checks that all readers share.
#include "formats/container/ggml_blocks.h"

#include <array>
#include <limits>
#include <vector>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/container/tensor_source.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

// Element i has the 4-bit value (i * 7 + 3) % 16, and the fifth bit where i % 3 == 0.
uint32_t low_bits(size_t i) {
  return static_cast<uint32_t>((i * 7 + 3) % 16);
}
uint32_t fifth_bit(size_t i) {
  return i % 3 == 0 ? 1 : 0;
}

void append_f16(std::vector<std::byte>& block, float value) {
  std::array<std::byte, 2> bytes{};
  store_le<uint16_t>(bytes.data(), f32_to_f16(value));
  block.insert(block.end(), bytes.begin(), bytes.end());
}

void append_fifth_bits(std::vector<std::byte>& block) {
  uint32_t bits = 0;
  for (size_t i = 0; i < 32; ++i) {
    bits |= fifth_bit(i) << i;
  }
  std::array<std::byte, 4> bytes{};
  store_le<uint32_t>(bytes.data(), bits);
  block.insert(block.end(), bytes.begin(), bytes.end());
}

void append_nibbles(std::vector<std::byte>& block) {
  for (size_t i = 0; i < 16; ++i) {
    block.push_back(static_cast<std::byte>(low_bits(i) | (low_bits(i + 16) << 4)));
  }
}

std::array<float, 64> decoded(DType dtype, const std::vector<std::byte>& bytes) {
  REQUIRE(bytes.size() == 2 * traits(dtype).block_bytes);
  std::array<float, 64> out{};
  decode_to_f32(dtype, bytes, out);
  return out;
}

}  // namespace

TEST_CASE("ggml blocks decode to the values of their layouts", "[ggml_blocks]") {
  // Two blocks each, so that the stride from block to block is seen too.
  const std::array<float, 2> scales = {0.5f, -0.25f};
  const float minimum = 1.5f;
  std::vector<std::byte> q4_0, q4_1, q5_0, q5_1, q8_0;
  for (const float scale : scales) {
    append_f16(q4_0, scale);
    append_nibbles(q4_0);
    append_f16(q4_1, scale);
    append_f16(q4_1, minimum);
    append_nibbles(q4_1);
    append_f16(q5_0, scale);
    append_fifth_bits(q5_0);
    append_nibbles(q5_0);
    append_f16(q5_1, scale);
    append_f16(q5_1, minimum);
    append_fifth_bits(q5_1);
    append_nibbles(q5_1);
    append_f16(q8_0, scale);
    for (int i = 0; i < 32; ++i) {
      q8_0.push_back(static_cast<std::byte>(i * 8 - 128));
    }
  }
  const auto a = decoded(DType::Q4_0, q4_0);
  const auto b = decoded(DType::Q4_1, q4_1);
  const auto c = decoded(DType::Q5_0, q5_0);
  const auto d = decoded(DType::Q5_1, q5_1);
  const auto e = decoded(DType::Q8_0, q8_0);
  for (size_t at = 0; at < 64; ++at) {
    const size_t i = at % 32;
    const float scale = scales[at / 32];
    const auto four = static_cast<float>(low_bits(i));
    const auto five = static_cast<float>(low_bits(i) + 16 * fifth_bit(i));
    INFO("element " << at);
    CHECK(a[at] == (four - 8) * scale);
    CHECK(b[at] == four * scale + minimum);
    CHECK(c[at] == (five - 16) * scale);
    CHECK(d[at] == five * scale + minimum);
    CHECK(e[at] == static_cast<float>(static_cast<int>(i) * 8 - 128) * scale);
  }
}

TEST_CASE("plain types decode exactly", "[tensor_source]") {
  const std::vector<std::byte> ones(16, std::byte{0xff});
  std::array<float, 1> out{};
  const auto decode = [&](DType dtype, std::span<const std::byte> bytes) {
    decode_to_f32(dtype, bytes, out);
    return out[0];
  };
  CHECK(decode(DType::I8, ones) == -1.0f);
  CHECK(decode(DType::U8, ones) == 255.0f);
  CHECK(decode(DType::I16, ones) == -1.0f);
  CHECK(decode(DType::I32, ones) == -1.0f);
  CHECK(decode(DType::I64, ones) == -1.0f);
  CHECK(decode(DType::Bool, ones) == 1.0f);
  std::array<std::byte, 8> bytes{};
  store_le<double>(bytes.data(), 0.1);
  CHECK(decode(DType::F64, bytes) == 0.1f);
  store_le<float>(bytes.data(), 0.1f);
  CHECK(decode(DType::F32, bytes) == 0.1f);
  store_le<uint16_t>(bytes.data(), 0x3e00);
  CHECK(decode(DType::F16, bytes) == 1.5f);
  store_le<uint16_t>(bytes.data(), 0xbfc0);
  CHECK(decode(DType::BF16, bytes) == -1.5f);
}

TEST_CASE("the dtype list is found by enum and by name", "[tensor_source]") {
  for (const DTypeTraits& row : dtype_list()) {
    CHECK(&traits(row.dtype) == &row);
    CHECK(find_dtype(row.name) == &row);
  }
  CHECK(find_dtype("float32") == nullptr);
}

TEST_CASE("shapes have a text", "[tensor_source]") {
  CHECK(shape_to_string(std::vector<uint64_t>{}) == "scalar");
  CHECK(shape_to_string(std::vector<uint64_t>{1, 1, 128}) == "1x1x128");
}

TEST_CASE("tensor sizes are checked without overflow", "[tensor_source]") {
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  const auto message = [](DType dtype, std::vector<uint64_t> shape) {
    return check_tensor_size({"some.weight", dtype, std::move(shape)}).message();
  };
  CHECK(message(DType::F32, {}).empty());
  CHECK(message(DType::F32, {128, 512}).empty());
  CHECK(message(DType::Q5_1, {3, 64}).empty());
  CHECK(TensorInfo{"x", DType::Q5_1, {3, 64}}.n_bytes() == 6 * 24);
  CHECK_THAT(message(DType::F32, {128, 0}), Catch::Contains("some.weight"));
  CHECK_THAT(message(DType::F32, {kHuge, 2}), Catch::Contains("more elements"));
  CHECK_THAT(message(DType::F32, {kHuge / 2}), Catch::Contains("larger than memory"));
  CHECK_THAT(message(DType::I8, {kHuge}), Catch::Contains("larger than memory"));
  CHECK_THAT(message(DType::F32, std::vector<uint64_t>(9, 1)), Catch::Contains("9 dimensions"));
  CHECK_THAT(message(DType::Q8_0, {64, 3}), Catch::Contains("divisible by 32"));
  CHECK_THAT(message(DType::Q4_0, {}), Catch::Contains("divisible by 32"));
}

}  // namespace rwkv
