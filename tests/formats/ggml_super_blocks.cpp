// ggml's super-blocks. Blocks are built from drawn fields (scales, minima, codes) by the layouts as
// ggml describes them, element by element; what they must decode to is computed from the fields in
// double and rounded once.
#include "formats/container/ggml_super_blocks.h"

#include <array>
#include <functional>
#include <random>
#include <vector>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/container/tensor_source.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

constexpr size_t kBlocks = 50;

// A block under construction: its bytes, and the value of each element.
struct Block {
  std::vector<uint8_t> bytes;
  std::vector<double> values;
};

class Draw {
 public:
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(engine_() % n); }
  // Any finite half float, zero and the smallest ones too.
  uint16_t half() {
    uint16_t bits = 0;
    do {
      bits = static_cast<uint16_t>(engine_());
    } while ((bits & 0x7c00u) == 0x7c00u);
    return below(20) == 0 ? static_cast<uint16_t>(bits & 0x83ffu) : bits;
  }

 private:
  std::mt19937 engine_{7};
};

double value_of(uint16_t half) {
  return static_cast<double>(f16_to_f32(half));
}

void put_half(Block& block, size_t at, uint16_t half) {
  block.bytes[at] = static_cast<uint8_t>(half & 0xffu);
  block.bytes[at + 1] = static_cast<uint8_t>(half >> 8);
}

void put_bits(Block& block, size_t byte, uint32_t shift, uint32_t bits) {
  block.bytes[byte] = static_cast<uint8_t>(block.bytes[byte] | bits << shift);
}

// Four bits of 64 elements in 32 bytes, the first half in the low bits: Q4_K and Q5_K.
void put_nibble_of_64(Block& block, size_t codes, size_t i, uint32_t q) {
  put_bits(block, codes + i / 64 * 32 + i % 32, i % 64 < 32 ? 0 : 4, q);
}

// Two bits of 128 elements in 32 bytes: Q2_K, Q3_K and the upper bits of Q6_K.
void put_pair_of_128(Block& block, size_t codes, size_t i, uint32_t q) {
  put_bits(block, codes + i / 128 * 32 + i % 32, static_cast<uint32_t>(i % 128 / 32 * 2), q);
}

// Scale and minimum of eight parts, six bits each, in 12 bytes: the low parts whole, the upper ones
// in halves of four bits whose upper two bits lie above the low parts.
void put_six_bits(Block& block, size_t at, size_t part, uint32_t scale, uint32_t minimum) {
  if (part < 4) {
    put_bits(block, at + part, 0, scale);
    put_bits(block, at + part + 4, 0, minimum);
    return;
  }
  put_bits(block, at + part + 4, 0, scale & 15u);
  put_bits(block, at + part + 4, 4, minimum & 15u);
  put_bits(block, at + part - 4, 6, scale >> 4);
  put_bits(block, at + part, 6, minimum >> 4);
}

Block q2_k(Draw& draw) {
  Block block{std::vector<uint8_t>(84), {}};
  const uint16_t d = draw.half(), dmin = draw.half();
  put_half(block, 80, d);
  put_half(block, 82, dmin);
  for (size_t i = 0; i < 256; ++i) {
    if (i % 16 == 0) {
      put_bits(block, i / 16, 0, draw.below(256));
    }
    const uint32_t part = block.bytes[i / 16], q = draw.below(4);
    put_pair_of_128(block, 16, i, q);
    block.values.push_back(value_of(d) * (part & 15u) * q - value_of(dmin) * (part >> 4));
  }
  return block;
}

Block q3_k(Draw& draw) {
  Block block{std::vector<uint8_t>(110), {}};
  const uint16_t d = draw.half();
  put_half(block, 108, d);
  double scale = 0;
  for (size_t i = 0; i < 256; ++i) {
    const size_t part = i / 16;
    if (i % 16 == 0) {
      const uint32_t bits = draw.below(64);
      put_bits(block, 96 + part % 8, part < 8 ? 0 : 4, bits & 15u);
      put_bits(block, 104 + part % 4, static_cast<uint32_t>(part / 4 * 2), bits >> 4);
      scale = value_of(d) * (static_cast<int>(bits) - 32);
    }
    const uint32_t q = draw.below(8);
    put_pair_of_128(block, 32, i, q & 3u);
    put_bits(block, i % 32, static_cast<uint32_t>(i / 32), q >> 2);
    block.values.push_back(scale * (static_cast<int>(q) - 4));
  }
  return block;
}

// Q4_K, and Q5_K with a plane of fifth bits between scales and codes.
Block q45_k(Draw& draw, bool five) {
  Block block{std::vector<uint8_t>(five ? 176 : 144), {}};
  const uint16_t d = draw.half(), dmin = draw.half();
  put_half(block, 0, d);
  put_half(block, 2, dmin);
  double scale = 0, minimum = 0;
  for (size_t i = 0; i < 256; ++i) {
    if (i % 32 == 0) {
      const uint32_t s = draw.below(64), m = draw.below(64);
      put_six_bits(block, 4, i / 32, s, m);
      scale = value_of(d) * s;
      minimum = value_of(dmin) * m;
    }
    const uint32_t q = draw.below(five ? 32 : 16);
    put_nibble_of_64(block, five ? 48 : 16, i, q & 15u);
    if (five) {
      put_bits(block, 16 + i % 32, static_cast<uint32_t>(i / 32), q >> 4);
    }
    block.values.push_back(scale * q - minimum);
  }
  return block;
}

Block q6_k(Draw& draw) {
  Block block{std::vector<uint8_t>(210), {}};
  const uint16_t d = draw.half();
  put_half(block, 208, d);
  for (size_t i = 0; i < 256; ++i) {
    if (i % 16 == 0) {
      put_bits(block, 192 + i / 16, 0, draw.below(256));
    }
    const auto part = static_cast<int8_t>(block.bytes[192 + i / 16]);
    const uint32_t q = draw.below(64);
    // 128 elements share 64 bytes of low halves: 0..63 in the low bits, 64..127 in the high ones.
    put_bits(block, i / 128 * 64 + i % 64, i % 128 < 64 ? 0 : 4, q & 15u);
    put_pair_of_128(block, 128, i, q >> 4);
    // Scale times part is exact in f32; the product with q is what ggml rounds.
    block.values.push_back(value_of(d) * part * (static_cast<int>(q) - 32));
  }
  return block;
}

constexpr std::array<int, 16> kLevels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};

Block iq4_nl(Draw& draw) {
  Block block{std::vector<uint8_t>(18), {}};
  const uint16_t d = draw.half();
  put_half(block, 0, d);
  for (size_t i = 0; i < 32; ++i) {
    const uint32_t q = draw.below(16);
    put_bits(block, 2 + i % 16, i < 16 ? 0 : 4, q);
    block.values.push_back(value_of(d) * kLevels[q]);
  }
  return block;
}

Block iq4_xs(Draw& draw) {
  Block block{std::vector<uint8_t>(136), {}};
  const uint16_t d = draw.half();
  put_half(block, 0, d);
  double scale = 0;
  for (size_t i = 0; i < 256; ++i) {
    const size_t part = i / 32;
    if (i % 32 == 0) {
      const uint32_t bits = draw.below(64);
      put_bits(block, 4 + part / 2, part % 2 * 4, bits & 15u);
      put_bits(block, 2 + part / 4, static_cast<uint32_t>(part % 4 * 2), bits >> 4);
      scale = value_of(d) * (static_cast<int>(bits) - 32);
    }
    const uint32_t q = draw.below(16);
    put_bits(block, 8 + part * 16 + i % 16, i % 32 < 16 ? 0 : 4, q);
    block.values.push_back(scale * kLevels[q]);
  }
  return block;
}

void check_decoded(DType dtype, const std::function<Block(Draw&)>& make) {
  Draw draw;
  std::vector<std::byte> bytes;
  std::vector<double> expected;
  for (size_t n = 0; n < kBlocks; ++n) {
    const Block block = make(draw);
    REQUIRE(block.bytes.size() == traits(dtype).block_bytes);
    REQUIRE(block.values.size() == traits(dtype).block);
    for (const uint8_t byte : block.bytes) {
      bytes.push_back(static_cast<std::byte>(byte));
    }
    expected.insert(expected.end(), block.values.begin(), block.values.end());
  }
  std::vector<float> found(expected.size());
  decode_to_f32(dtype, bytes, found);
  for (size_t i = 0; i < found.size(); ++i) {
    INFO(traits(dtype).name << " element " << i);
    REQUIRE(found[i] == static_cast<float>(expected[i]));
  }
}

}  // namespace

TEST_CASE("Super-blocks decode to the values of their fields, rounded once", "[ggml_blocks]") {
  check_decoded(DType::Q2_K, q2_k);
  check_decoded(DType::Q3_K, q3_k);
  check_decoded(DType::Q4_K, [](Draw& draw) { return q45_k(draw, false); });
  check_decoded(DType::Q5_K, [](Draw& draw) { return q45_k(draw, true); });
  check_decoded(DType::Q6_K, q6_k);
  check_decoded(DType::IQ4_NL, iq4_nl);
  check_decoded(DType::IQ4_XS, iq4_xs);
}

TEST_CASE("Super-blocks need rows of whole blocks", "[ggml_blocks]") {
  const auto message = [](DType dtype, std::vector<uint64_t> shape) {
    return check_tensor_size({"some.weight", dtype, std::move(shape)}).message();
  };
  CHECK(message(DType::Q4_K, {3, 512}).empty());
  CHECK(message(DType::IQ4_NL, {3, 32}).empty());
  CHECK_THAT(message(DType::Q4_K, {256, 128}), Catch::Contains("divisible by 256"));
  CHECK_THAT(message(DType::IQ4_XS, {32}), Catch::Contains("divisible by 256"));
  CHECK(TensorInfo{"x", DType::Q6_K, {2, 512}}.n_bytes() == 4 * 210);
}

}  // namespace rwkv
