#include "runtime/memory/packed_file.h"

#include "formats/base/damaged.h"
#include "formats/container/packed_keys.h"

namespace rwkv::edge {
namespace {

// Of the tensors that make up the model.
std::vector<TensorInfo> as_infos(std::span<const PackedTensor> tensors) {
  std::vector<TensorInfo> infos;
  for (const PackedTensor& tensor : tensors.first(n_complete_tensors(tensors))) {
    infos.push_back({tensor.name, DType::F32, tensor.shape});
  }
  return infos;
}

// Settings that do not follow from the tensors come from the metadata, such as the form of factor
// pairs.
void take_settings(const ModelConfig& from, ModelConfig& config) {
  config.group_norm_eps = from.group_norm_eps;
  config.ln0_folded = from.ln0_folded;
  config.head_p_min = from.head_p_min;
  config.head_k_min = from.head_k_min;
  config.head_k_max = from.head_k_max;
  config.first_cluster_always = from.first_cluster_always;
  if (config.low_rank != LowRankForm::None && from.low_rank != LowRankForm::None) {
    config.low_rank = from.low_rank;
  }
}

// The tensors decide the sizes; the metadata must agree, and adds settings that do not follow from
// tensors.
Status check_config(const GgufMetadata& metadata, PackedFile& packed) {
  RWKV_ASSIGN(packed.config, config_from_metadata(metadata));
  const std::vector<TensorInfo> infos = as_infos(packed.tensors);
  RWKV_ASSIGN(Identified found, identify(infos, ShapesAre::AsPacked));
  take_settings(packed.config, found.config);
  GgufMetadata from_tensors;
  config_to_metadata(found.config, from_tensors);
  for (const auto& [key, value] : from_tensors.entries()) {
    const GgufValue* stored = metadata.find(key);
    if (!stored || stored->value != value.value) {
      return damaged("metadata key '{}' is {}, but the tensors imply {}", key,
                     stored ? value_to_string(*stored) : "missing", value_to_string(value));
    }
  }
  packed.bindings = std::move(found.tensors);
  return {};
}

// What the file states of the rows that a token reads: only figures for people depend on it.
RowShares shares_in(const GgufMetadata& metadata) {
  const auto share = [&](const char* key) {
    const Result<double> found = metadata.get_f64(key);
    return found.ok() && found.value() >= 0 && found.value() <= 1 ? found.value() : 1.0;
  };
  return {share(keys::kReadNeurons), share(keys::kReadHead)};
}

// Tables of codes must be ones that kernels may use.
Status check_shared_parts(const std::vector<PackedTensor>& tensors, const InputFile& file) {
  for (const PackedTensor& tensor : tensors) {
    const CodecTraits& codec = codec_traits(tensor.codec);
    if (codec.check_shared) {
      std::vector<std::byte> shared(codec.shared_bytes(tensor.cols));
      RWKV_TRY(file.read_at(tensor.offset, shared));
      RWKV_TRY(check_shared_part(tensor, shared).in(file.path()));
    }
  }
  return {};
}

// Rows of ffn.value are read one by one, at any width.
Status check_rows_of_copies(const PackedFile& packed) {
  for (const TensorBinding& binding : packed.bindings) {
    for (const ShardedMatrix& matrix : packed.shards) {
      if (binding.role != Role::FfnValue || matrix.tensor != binding.source) {
        continue;
      }
      for (const ShardPiece& piece : matrix.pieces) {
        for (const ShardVersion& version : piece.versions) {
          const size_t tensor = version.tensor;
          if (tensor != ShardVersion::kNothing &&
              codec_traits(packed.tensors[tensor].codec).unit_rows != 1) {
            return damaged("'{}' packs rows together in {}, expected them one by one",
                           packed.tensors[tensor].name,
                           codec_traits(packed.tensors[tensor].codec).name);
          }
        }
      }
    }
  }
  return {};
}

}  // namespace

Result<PackedFile> PackedFile::open(const std::string& path) {
  // Read, not mapped: in most modes a file that becomes shorter must give a status and no signal.
  RWKV_ASSIGN(const auto input, InputFile::open(path));
  RWKV_ASSIGN(const GgufFile file, GgufFile::read(*input));
  PackedFile packed;
  packed.path = path;
  RWKV_ASSIGN(packed.tensors, packed_tensors(file));
  RWKV_TRY(check_shared_parts(packed.tensors, *input));
  RWKV_TRY(check_config(file.metadata(), packed).in(path));
  auto shards = shard_index(file.metadata(), packed.tensors);
  RWKV_TRY(shards.status().in(path));
  packed.shards = shards.take();
  RWKV_TRY(check_rows_of_copies(packed).in(path));
  packed.shares = shares_in(file.metadata());
  packed.metadata = file.metadata();
  return packed;
}

}  // namespace rwkv::edge
