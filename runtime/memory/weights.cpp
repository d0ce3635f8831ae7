#include "runtime/memory/weights.h"

#include <cstdint>

namespace rwkv::edge {
namespace {

std::vector<TensorInfo> as_infos(const std::vector<PackedTensor>& tensors) {
  std::vector<TensorInfo> infos;
  for (const PackedTensor& tensor : tensors) {
    infos.push_back({tensor.name, DType::F32, tensor.shape});
  }
  return infos;
}

}  // namespace

Result<std::shared_ptr<const Weights>> Weights::open(const std::string& path) {
  RWKV_ASSIGN(auto mapping, MappedFile::open(path));
  RWKV_ASSIGN(GgufFile file, GgufFile::parse(mapping->bytes(), path));
  std::shared_ptr<Weights> weights(new Weights(std::move(mapping), std::move(file)));
  RWKV_ASSIGN(weights->tensors_, packed_tensors(weights->file_));
  for (size_t i = 0; i < weights->tensors_.size(); ++i) {
    weights->by_name_.emplace(weights->tensors_[i].name, i);
  }
  RWKV_TRY(weights->check_config().in(path));
  return std::shared_ptr<const Weights>(std::move(weights));
}

// The tensors decide the sizes; the metadata must agree, and adds what tensors cannot show.
Status Weights::check_config() {
  RWKV_ASSIGN(config_, config_from_metadata(file_.metadata()));
  const std::vector<TensorInfo> infos = as_infos(tensors_);
  RWKV_ASSIGN(Identified found, identify(infos, ShapesAre::AsPacked));
  ModelConfig expected = found.config;
  expected.group_norm_eps = config_.group_norm_eps;
  expected.ln0_folded = config_.ln0_folded;
  GgufMetadata from_tensors;
  config_to_metadata(expected, from_tensors);
  for (const auto& [key, value] : from_tensors.entries()) {
    const GgufValue* stored = file_.metadata().find(key);
    if (!stored || stored->value != value.value) {
      return bad_input("metadata key '{}' is {}, the tensors say {}", key,
                       stored ? value_to_string(*stored) : "missing", value_to_string(value));
    }
  }
  bindings_ = std::move(found.tensors);
  return {};
}

std::span<const std::byte> Weights::bytes_of(const PackedTensor& tensor) const {
  return mapping_->bytes().subspan(tensor.offset, tensor.n_bytes);
}

Result<MatrixView> Weights::matrix(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    return bad_input("tensor '{}' is missing", name);
  }
  const PackedTensor& tensor = tensors_[found->second];
  return MatrixView{
      bytes_of(tensor).data(), tensor.codec, tensor.rows, tensor.cols, tensor.rows, 0};
}

Result<std::span<const float>> Weights::vector(std::string_view name) const {
  RWKV_ASSIGN(const MatrixView view, matrix(name));
  if (view.codec != Codec::F32 || reinterpret_cast<uintptr_t>(view.data) % alignof(float) != 0) {
    return bad_input("tensor '{}' is {}, a vector must be aligned f32", name,
                     codec_traits(view.codec).name);
  }
  // The one place where mapped bytes are used as floats in place: alignment was checked.
  return std::span(reinterpret_cast<const float*>(view.data), view.rows * view.cols);
}

uint64_t Weights::bytes_per_token() const {
  uint64_t bytes = 0;
  for (const TensorBinding& binding : bindings_) {
    const PackedTensor& tensor = tensors_[binding.source];
    if (binding.role == Role::Embedding) {
      bytes += tensor.n_bytes / tensor.rows;
    } else if (binding.role != Role::Ignored) {
      bytes += tensor.n_bytes;
    }
  }
  return bytes;
}

uint64_t Weights::total_bytes() const {
  uint64_t bytes = 0;
  for (const PackedTensor& tensor : tensors_) {
    bytes += tensor.n_bytes;
  }
  return bytes;
}

}  // namespace rwkv::edge
