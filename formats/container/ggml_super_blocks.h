// ggml's quantised formats with super-blocks of 256 values (Q2_K to Q6_K, IQ4_XS), and IQ4_NL,
// whose sixteen levels IQ4_XS shares, decoded to float: what llama-quantize writes by default. The
// values are those of ggml's own dequantisation, bit for bit.
//
// A super-block has one or two f16 scales; its parts of 16 or 32 values have small integer scales
// (and minima) relative to them. Layouts: ggml's block_q2_K ... block_q6_K, block_iq4_nl,
// block_iq4_xs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace rwkv {

inline constexpr uint32_t kGgmlSuperBlock = 256;
inline constexpr uint32_t kQ2KBytes = 16 + 64 + 2 + 2;
inline constexpr uint32_t kQ3KBytes = 32 + 64 + 12 + 2;
inline constexpr uint32_t kQ4KBytes = 2 + 2 + 12 + 128;
inline constexpr uint32_t kQ5KBytes = 2 + 2 + 12 + 32 + 128;
inline constexpr uint32_t kQ6KBytes = 128 + 64 + 16 + 2;
inline constexpr uint32_t kIq4NlBytes = 2 + 16;
inline constexpr uint32_t kIq4XsBytes = 2 + 2 + 4 + 128;

// Each decodes whole blocks: out.size() is a multiple of 256 (of 32 for IQ4_NL), and `blocks` holds
// them.
void decode_q2_k(std::span<const std::byte> blocks, std::span<float> out);
void decode_q3_k(std::span<const std::byte> blocks, std::span<float> out);
void decode_q4_k(std::span<const std::byte> blocks, std::span<float> out);
void decode_q5_k(std::span<const std::byte> blocks, std::span<float> out);
void decode_q6_k(std::span<const std::byte> blocks, std::span<float> out);
void decode_iq4_nl(std::span<const std::byte> blocks, std::span<float> out);
void decode_iq4_xs(std::span<const std::byte> blocks, std::span<float> out);

}  // namespace rwkv
