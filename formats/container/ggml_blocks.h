// ggml's quantised blocks of 32 values, decoded to float: only the types in published
// checkpoints (rwkv.cpp's .bin, GGUF). Our own codecs are in formats/codec. The layouts follow
// ggml's block_q4_0 ... block_q8_0; f16 scales and the u32 of fifth bits are little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace rwkv {

inline constexpr uint32_t kGgmlBlock = 32;
inline constexpr uint32_t kQ4_0Bytes = 2 + 16;
inline constexpr uint32_t kQ4_1Bytes = 2 + 2 + 16;
inline constexpr uint32_t kQ5_0Bytes = 2 + 4 + 16;
inline constexpr uint32_t kQ5_1Bytes = 2 + 2 + 4 + 16;
inline constexpr uint32_t kQ8_0Bytes = 2 + 32;

// Each decodes out.size() / 32 blocks; out.size() is a multiple of 32 and `blocks` holds them.
void decode_q4_0(std::span<const std::byte> blocks, std::span<float> out);
void decode_q4_1(std::span<const std::byte> blocks, std::span<float> out);
void decode_q5_0(std::span<const std::byte> blocks, std::span<float> out);
void decode_q5_1(std::span<const std::byte> blocks, std::span<float> out);
void decode_q8_0(std::span<const std::byte> blocks, std::span<float> out);

}  // namespace rwkv
