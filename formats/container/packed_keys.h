// The metadata keys of a packed file and its format version: the one list that the packer writes
// from and the runtime reads by. Described for people in docs/packed_format.md.
#pragma once

#include <cstdint>

namespace rwkv::keys {

/// What is written.
inline constexpr uint32_t kFormatVersion = 3;
/// The oldest version that is read. The policy is in docs/packed_format.md, "Versions".
inline constexpr uint32_t kOldestFormatVersion = 2;
/// The version that gave mm8 its present layout; matrices in mm8 of older files are refused.
inline constexpr uint32_t kMm8FormatVersion = 3;
inline constexpr const char* kArchitectureName = "rwkv";
/// Tensor data starts at multiples of this, a cache line.
inline constexpr uint32_t kAlignment = 64;

// Standard GGUF keys.
inline constexpr const char* kArchitecture = "general.architecture";
inline constexpr const char* kName = "general.name";
inline constexpr const char* kFileType = "general.file_type";
inline constexpr const char* kAlignmentKey = "general.alignment";
inline constexpr const char* kQuantizationVersion = "general.quantization_version";

// Ours.
inline constexpr const char* kFormat = "press.format_version";
inline constexpr const char* kToolVersion = "press.tool_version";
inline constexpr const char* kRecipe = "press.recipe";
inline constexpr const char* kSeed = "press.seed";
inline constexpr const char* kSourceFormat = "press.source.format";
inline constexpr const char* kSourceFile = "press.source.file";
inline constexpr const char* kSourceXxh64 = "press.source.xxh64";
inline constexpr const char* kChatTemplate = "press.chat_template";
/// Optional: the shares of the neurons, and of the rows of a clustered head, that a token needed of
/// the text that conversion learned from.
inline constexpr const char* kReadNeurons = "press.read.neurons";
inline constexpr const char* kReadHead = "press.read.head";
// Arrays with one element per tensor, in file order. The array of XXH64 is the GGUF writer's.
inline constexpr const char* kTensorCodec = "press.tensor.codec";
inline constexpr const char* kTensorRows = "press.tensor.rows";
inline constexpr const char* kTensorCols = "press.tensor.cols";
inline constexpr const char* kSourceDtype = "press.source.dtype";
inline constexpr const char* kSourceShape = "press.source.shape";
inline constexpr const char* kSourceOrder = "press.source.order";
// Optional: narrower copies of rows (shard_index.h).
inline constexpr const char* kShardTensors = "press.shards.tensor";
inline constexpr const char* kShardRows = "press.shards.rows";
inline constexpr const char* kShardCodecs = "press.shards.codec";
inline constexpr const char* kShardLosses = "press.shards.loss";
inline constexpr const char* kShardXxh64 = "press.shards.xxh64";

}  // namespace rwkv::keys
