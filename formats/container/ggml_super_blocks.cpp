#include "formats/container/ggml_super_blocks.h"

#include <array>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"

namespace rwkv {
namespace {

// Products of a scale and small integers are exact in f32 (Q6_K's and IQ4_XS's last one rounds
// once), and a minimum is subtracted with one rounding; so the order of operations cannot change a
// bit.

constexpr std::array<float, 16> kLevels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                           1,    13,   25,  38,  53,  69,  89,  113};

float load_f16(const std::byte* from) {
  return f16_to_f32(load_le<uint16_t>(from));
}

uint32_t byte_at(const std::byte* from, size_t i) {
  return static_cast<uint32_t>(from[i]);
}

// Codes of `kBits` bits in chunks of 128 elements: byte j of a chunk has element j in its lowest
// bits, and the elements after it at distances of the chunk's bytes.
template <uint32_t kBits>
uint32_t code_at(const std::byte* codes, size_t i) {
  constexpr size_t kChunkBytes = 128 * kBits / 8;
  const size_t in_chunk = i % 128;
  const uint32_t byte = byte_at(codes, i / 128 * kChunkBytes + in_chunk % kChunkBytes);
  return (byte >> (in_chunk / kChunkBytes * kBits)) & ((1u << kBits) - 1);
}

// 4-bit codes in chunks of 64: the first 32 elements in the low halves of 32 bytes.
uint32_t nibble_of_64(const std::byte* codes, size_t i) {
  const uint32_t byte = byte_at(codes, i / 64 * 32 + i % 32);
  return i % 64 < 32 ? byte & 15u : byte >> 4;
}

// 4-bit codes in blocks of 32: the first 16 elements in the low halves of 16 bytes.
uint32_t nibble_of_32(const std::byte* codes, size_t i) {
  const uint32_t byte = byte_at(codes, i / 32 * 16 + i % 16);
  return i % 32 < 16 ? byte & 15u : byte >> 4;
}

// Bit plane: bit i / 32 of byte i % 32 belongs to element i.
uint32_t bit_of(const std::byte* plane, size_t i) {
  return (byte_at(plane, i % 32) >> (i / 32)) & 1u;
}

// Scale and minimum of one of eight parts, of 6 bits each, in 12 bytes.
struct ScaleAndMinimum {
  uint32_t scale;
  uint32_t minimum;
};
ScaleAndMinimum six_bits(const std::byte* packed, size_t part) {
  if (part < 4) {
    return {byte_at(packed, part) & 63u, byte_at(packed, part + 4) & 63u};
  }
  const uint32_t low = byte_at(packed, part + 4);
  return {(low & 15u) | (byte_at(packed, part - 4) >> 6 << 4),
          (low >> 4) | (byte_at(packed, part) >> 6 << 4)};
}

// Q3_K's scale of one of sixteen parts: four bits, and two more in the last four of 12 bytes.
int q3_scale(const std::byte* packed, size_t part) {
  const uint32_t byte = byte_at(packed, part % 8);
  const uint32_t low = part < 8 ? byte & 15u : byte >> 4;
  const uint32_t high = (byte_at(packed, 8 + part % 4) >> (part / 4 * 2)) & 3u;
  return static_cast<int>(low | high << 4) - 32;
}

}  // namespace

void decode_q2_k(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlSuperBlock, block += kQ2KBytes) {
    const std::byte* codes = block + 16;
    const float scale = load_f16(block + 80);
    const float minimum = load_f16(block + 82);
    for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
      const uint32_t part = byte_at(block, i / 16);
      out[at + i] =
          scale * static_cast<float>(part & 15u) * static_cast<float>(code_at<2>(codes, i)) -
          minimum * static_cast<float>(part >> 4);
    }
  }
}

void decode_q3_k(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlSuperBlock, block += kQ3KBytes) {
    const std::byte* codes = block + 32;
    const float scale = load_f16(block + 108);
    for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
      const int q = static_cast<int>(code_at<2>(codes, i) + 4 * bit_of(block, i)) - 4;
      out[at + i] =
          scale * static_cast<float>(q3_scale(block + 96, i / 16)) * static_cast<float>(q);
    }
  }
}

void decode_q4_k(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlSuperBlock, block += kQ4KBytes) {
    const float scale = load_f16(block);
    const float minimum = load_f16(block + 2);
    for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
      const ScaleAndMinimum part = six_bits(block + 4, i / 32);
      out[at + i] =
          scale * static_cast<float>(part.scale) * static_cast<float>(nibble_of_64(block + 16, i)) -
          minimum * static_cast<float>(part.minimum);
    }
  }
}

void decode_q5_k(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlSuperBlock, block += kQ5KBytes) {
    const float scale = load_f16(block);
    const float minimum = load_f16(block + 2);
    const std::byte* fifth_bits = block + 16;
    for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
      const ScaleAndMinimum part = six_bits(block + 4, i / 32);
      const uint32_t q = nibble_of_64(block + 48, i) + 16 * bit_of(fifth_bits, i);
      out[at + i] = scale * static_cast<float>(part.scale) * static_cast<float>(q) -
                    minimum * static_cast<float>(part.minimum);
    }
  }
}

void decode_q6_k(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlSuperBlock, block += kQ6KBytes) {
    const std::byte* scales = block + 192;
    const float scale = load_f16(block + 208);
    for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
      const uint32_t low = code_at<4>(block, i);
      const uint32_t high = code_at<2>(block + 128, i);
      const auto part = static_cast<float>(load_le<int8_t>(scales + i / 16));
      out[at + i] = scale * part * static_cast<float>(static_cast<int>(low | high << 4) - 32);
    }
  }
}

void decode_iq4_nl(std::span<const std::byte> blocks, std::span<float> out) {
  constexpr size_t kBlock = 32;
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kBlock, block += kIq4NlBytes) {
    const float scale = load_f16(block);
    for (size_t i = 0; i < kBlock; ++i) {
      out[at + i] = scale * kLevels[nibble_of_32(block + 2, i)];
    }
  }
}

void decode_iq4_xs(std::span<const std::byte> blocks, std::span<float> out) {
  const std::byte* block = blocks.data();
  for (size_t at = 0; at < out.size(); at += kGgmlSuperBlock, block += kIq4XsBytes) {
    const float scale = load_f16(block);
    const auto high_bits = load_le<uint16_t>(block + 2);
    for (size_t i = 0; i < kGgmlSuperBlock; ++i) {
      const size_t part = i / 32;
      const uint32_t low = (byte_at(block + 4, part / 2) >> (part % 2 * 4)) & 15u;
      const uint32_t high = (static_cast<uint32_t>(high_bits) >> (2 * part)) & 3u;
      const int part_scale = static_cast<int>(low | high << 4) - 32;
      out[at + i] = scale * static_cast<float>(part_scale) * kLevels[nibble_of_32(block + 8, i)];
    }
  }
}

}  // namespace rwkv
