#include "formats/arch/access.h"

namespace rwkv {

ModelAccess::ModelAccess(const ModelConfig& config, std::span<const TensorBinding> tensors)
    : has_clusters_(config.n_cluster > 0), has_predictor_(config.n_layer) {
  for (const TensorBinding& tensor : tensors) {
    if (tensor.role == Role::SignBits || tensor.role == Role::Predictor) {
      has_predictor_[static_cast<size_t>(tensor.block)] = true;
    }
  }
}

Access ModelAccess::of(const TensorBinding& tensor) const {
  if (tensor.role == Role::FfnKey && !has_predictor_[static_cast<size_t>(tensor.block)]) {
    return Access::EveryToken;
  }
  // ffn.value needs no predictor: neurons that came out as zero are known by then.
  if (tensor.role == Role::Head && !has_clusters_) {
    return Access::EveryToken;
  }
  return role_traits(tensor.role).access;
}

double bytes_read(Access access, uint64_t n_bytes, uint64_t rows, const RowShares& shares) {
  const auto bytes = static_cast<double>(n_bytes);
  switch (access) {
    case Access::EveryToken:
      return bytes;
    case Access::OneRow:
      return bytes / static_cast<double>(rows);
    case Access::NamedNeurons:
      return bytes * shares.neurons;
    case Access::ChosenClusters:
      return bytes * shares.clusters;
    case Access::Never:
      return 0;
  }
  return bytes;
}

}  // namespace rwkv
