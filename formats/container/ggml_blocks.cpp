#include "formats/container/ggml_blocks.h"

#include "formats/base/half.h"
#include "formats/base/little_endian.h"

namespace rwkv {
namespace {

constexpr size_t kHalfBlock = kGgmlBlock / 2;

float load_f16(const std::byte* from) {
  return f16_to_f32(load_le<uint16_t>(from));
}

// Byte i of the nibbles holds element i in its low half and element i + 16 in its high half.
uint32_t nibble(const std::byte* nibbles, size_t i) {
  const auto byte = static_cast<uint32_t>(nibbles[i % kHalfBlock]);
  return i < kHalfBlock ? byte & 15u : byte >> 4;
}

// Bit i of `fifth_bits` is the top bit of element i.
uint32_t five_bits(const std::byte* nibbles, uint32_t fifth_bits, size_t i) {
  return nibble(nibbles, i) | (((fifth_bits >> i) & 1u) << 4);
}

}  // namespace

void decode_q4_0(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlBlock, block += kQ4_0Bytes) {
    const float scale = load_f16(block);
    for (size_t i = 0; i < kGgmlBlock; ++i) {
      out[at + i] = static_cast<float>(static_cast<int>(nibble(block + 2, i)) - 8) * scale;
    }
  }
}

void decode_q4_1(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlBlock, block += kQ4_1Bytes) {
    const float scale = load_f16(block);
    const float minimum = load_f16(block + 2);
    for (size_t i = 0; i < kGgmlBlock; ++i) {
      out[at + i] = static_cast<float>(nibble(block + 4, i)) * scale + minimum;
    }
  }
}

void decode_q5_0(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlBlock, block += kQ5_0Bytes) {
    const float scale = load_f16(block);
    const auto fifth_bits = load_le<uint32_t>(block + 2);
    for (size_t i = 0; i < kGgmlBlock; ++i) {
      const int q = static_cast<int>(five_bits(block + 6, fifth_bits, i)) - 16;
      out[at + i] = static_cast<float>(q) * scale;
    }
  }
}

void decode_q5_1(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlBlock, block += kQ5_1Bytes) {
    const float scale = load_f16(block);
    const float minimum = load_f16(block + 2);
    const auto fifth_bits = load_le<uint32_t>(block + 4);
    for (size_t i = 0; i < kGgmlBlock; ++i) {
      out[at + i] = static_cast<float>(five_bits(block + 8, fifth_bits, i)) * scale + minimum;
    }
  }
}

void decode_q8_0(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlBlock, block += kQ8_0Bytes) {
    const float scale = load_f16(block);
    for (size_t i = 0; i < kGgmlBlock; ++i) {
      out[at + i] = static_cast<float>(load_le<int8_t>(block + 2 + i)) * scale;
    }
  }
}

}  // namespace rwkv
