#include "compressor/stages/shard_plan.h"

#include <algorithm>

#include "compressor/stages/quantize.h"
#include "formats/arch/access.h"
#include "formats/base/little_endian.h"
#include "formats/container/shard_index.h"

namespace rwkv::press {
namespace {

// As runtime/memory/stream_plan cuts what it streams: enough pieces to choose from, each large
// enough for storage to be fast.
constexpr uint64_t kPiecesOfAll = 256;
constexpr uint64_t kLeastPiece = uint64_t{512} << 10;
constexpr uint64_t kMostPiece = uint64_t{4} << 20;

// Whether the rows of a matrix are streamed piece by piece: all of them for every token, in a codec
// of which there are narrower ones.
bool may_have_copies(const PlannedTensor& tensor, const ModelAccess& access) {
  const TensorBinding& binding = tensor.binding;
  if (binding.shape.size() != 2 || binding.part == Part::Diagonal ||
      !codec_traits(tensor.codec).is_lossy) {
    return false;
  }
  switch (binding.role) {
    case Role::Projection:
    case Role::FfnKey:
    case Role::FfnValue:
    case Role::Head:
      break;
    case Role::Vector:
    case Role::Lora:
    case Role::Embedding:
    case Role::Predictor:
    case Role::SignBits:
    case Role::ClusterHead:
    case Role::TokenRows:
    case Role::InitialState:
    case Role::Ignored:
      return false;
  }
  const Access how = access.of(binding);
  return how == Access::EveryToken ||
         (how == Access::NamedNeurons && !access.has_predictor(binding.block));
}

// The codec of a copy at a width, laid out as the matrix is read; F32 if there can be none.
Codec codec_at(const std::string& width, const PlannedTensor& tensor, Access how) {
  const CodecTraits* const codec = width == kLeftOut ? nullptr : find_codec(width);
  if (codec == nullptr || !is_narrower(*codec, codec_traits(tensor.codec)) ||
      codec_for_columns(codec->codec, tensor.binding.packed_cols()) != codec->codec) {
    return Codec::F32;
  }
  return how != Access::EveryToken && codec->in_rows != Codec::F32 ? codec->in_rows : codec->codec;
}

uint64_t rows_at_a_time(const PlannedTensor& tensor, uint64_t most_bytes) {
  const uint64_t rows = tensor.binding.packed_rows();
  const uint64_t n = (tensor.encoded_bytes() + most_bytes - 1) / most_bytes;
  return align_up((rows + n - 1) / n, kShardRowStep);
}

std::vector<std::string> codec_names_of(const std::vector<const PlannedTensor*>& tensors) {
  std::vector<std::string> names;
  for (const PlannedTensor* tensor : tensors) {
    const char* const name = codec_traits(tensor->codec).name;
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.emplace_back(name);
    }
  }
  return names;
}

}  // namespace

int64_t row_dimension(const TensorBinding& binding) {
  return binding.layout == Layout::Transposed ? 1 : 0;
}

uint64_t piece_bytes(Codec codec, const RowRange& rows, uint64_t cols) {
  if (codec == Codec::F32) {
    return 0;
  }
  const CodecTraits& traits = codec_traits(codec);
  return (rows.n + traits.unit_rows - 1) / traits.unit_rows * traits.unit_bytes(cols);
}

Status plan_shards(const std::vector<std::string>& widths, uint64_t piece_bytes, PackPlan& plan) {
  const std::vector<TensorBinding> bindings = bindings_of(plan);
  const ModelAccess access(plan.config, bindings);
  std::vector<const PlannedTensor*> candidates;
  uint64_t all = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (may_have_copies(tensor, access)) {
      candidates.push_back(&tensor);
      all += tensor.encoded_bytes();
    }
  }
  if (candidates.empty()) {
    return usage_error(
        "shards: no matrix that every token reads whole is in a codec of fewer bits than f16; put "
        "stage quantize before it");
  }
  if (piece_bytes == 0) {
    piece_bytes = std::clamp(all / kPiecesOfAll, kLeastPiece, kMostPiece);
  }
  plan.shards = {widths, {}};
  std::vector<bool> is_used(widths.size());
  for (const PlannedTensor* tensor : candidates) {
    PlannedShards::Matrix matrix{tensor->binding.name, rows_at_a_time(*tensor, piece_bytes)};
    bool has_copies = false;
    for (size_t w = 0; w < widths.size(); ++w) {
      matrix.codecs.push_back(codec_at(widths[w], *tensor, access.of(tensor->binding)));
      is_used[w] = is_used[w] || matrix.codecs[w] != Codec::F32 || widths[w] == kLeftOut;
      has_copies = has_copies || matrix.codecs[w] != Codec::F32 || widths[w] == kLeftOut;
    }
    const uint64_t n_pieces = pieces_of(tensor->binding.packed_rows(), matrix.piece_rows).size();
    for (uint64_t p = 0; p < n_pieces; ++p) {
      for (size_t w = 0; w < widths.size(); ++w) {
        const bool is_there = matrix.codecs[w] != Codec::F32 || widths[w] == kLeftOut;
        matrix.losses.push_back(is_there ? 0 : PlannedShards::kAbsent);
      }
    }
    matrix.xxh64.resize(n_pieces * (widths.size() + 1));
    if (has_copies) {
      plan.shards.matrices.push_back(std::move(matrix));
    }
  }
  const auto unused = std::find(is_used.begin(), is_used.end(), false);
  if (unused != is_used.end()) {
    return usage_error(
        "shards.widths: {} is not narrower than {}, the codecs of the matrices, or no matrix has "
        "whole groups of columns for it; leave it out",
        widths[static_cast<size_t>(unused - is_used.begin())],
        fmt::join(codec_names_of(candidates), ", "));
  }
  return {};
}

}  // namespace rwkv::press
