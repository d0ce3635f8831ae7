#include "formats/arch/binder.h"

#include <algorithm>
#include <utility>

#include "formats/arch/versions.h"

namespace rwkv {
namespace {

// Far above every published model; keeps products of sizes inside 64 bits.
constexpr uint64_t kMaxSize = uint64_t{1} << 24;

std::string full_name(std::string_view name, int64_t block) {
  return block < 0 ? std::string(name) : fmt::format("blocks.{}.{}", block, name);
}

std::vector<uint64_t> squeezed(const std::vector<uint64_t>& shape) {
  std::vector<uint64_t> kept;
  std::copy_if(shape.begin(), shape.end(), std::back_inserter(kept),
               [](uint64_t dim) { return dim != 1; });
  return kept;
}

// Vectors come as [D], [1, D], [1, 1, D] or [H, N, 1]: only the dimensions that are not 1 count,
// and a flat vector of the right length will do.
bool fits_vector(const std::vector<uint64_t>& found, const std::vector<uint64_t>& wanted) {
  uint64_t n = 1;
  for (const uint64_t dim : wanted) {
    n *= dim;
  }
  const std::vector<uint64_t> kept = squeezed(found);
  return kept == squeezed(wanted) || (kept.size() == 1 && kept[0] == n);
}

}  // namespace

Binder::Binder(const TensorIndex& index, Version version, uint64_t n_layer, ShapesAre shapes)
    : index_(index), shapes_(shapes), bound_(index.size(), false) {
  result_.config.version = version;
  result_.config.n_layer = n_layer;
}

uint64_t& Binder::size_of(Dim dim) {
  ModelConfig& config = result_.config;
  switch (dim) {
    case Dim::Vocab:
      return config.n_vocab;
    case Dim::Embd:
      return config.n_embd;
    case Dim::Att:
      return config.dim_att;
    case Dim::Ffn:
      return config.dim_ffn;
    case Dim::Head:
      return config.n_head;
    case Dim::HeadSize:
      return config.head_size;
    case Dim::MixLora:
    case Dim::MixLora5:
      return config.mix_lora;
    case Dim::DecayLora:
      return config.decay_lora;
    case Dim::IclrLora:
      return config.iclr_lora;
    case Dim::ValueLora:
      return config.value_lora;
    case Dim::GateLora:
      return config.gate_lora;
    case Dim::Clusters:
      return config.n_cluster;
    case Dim::PredictorHidden:
      return config.predictor_hidden;
    case Dim::DeepEmbed:
    case Dim::DeepEmbed2:
      return config.deep_embed;
    case Dim::None:
    case Dim::Five:
    case Dim::Two:
      break;
  }
  return unused_;
}

// The number that `dim` must be; binds a free symbol to `found`.
Result<uint64_t> Binder::expected(Dim dim, uint64_t found) {
  if (dim == Dim::Five || dim == Dim::Two) {
    return uint64_t{dim == Dim::Five ? 5u : 2u};
  }
  uint64_t& size = size_of(dim);
  // The side is bound before: s1 is the first of its tensors.
  const uint64_t factor = dim == Dim::MixLora5 ? 5 : dim == Dim::DeepEmbed2 ? size : 1;
  if (size == 0) {
    if (found == 0 || found > kMaxSize || found % factor != 0) {
      return bad_input("a size of {} is not possible", found);
    }
    size = found / factor;
  }
  return size * factor;
}

Status Binder::derive_sizes() {
  const TensorInfo* emb = index_.find("emb.weight");
  if (!emb) {
    return bad_input("tensor 'emb.weight' is missing, expected vocabulary x n_embd");
  }
  if (emb->shape.size() != 2 || emb->shape[0] > kMaxSize || emb->shape[1] > kMaxSize) {
    return bad_input("tensor 'emb.weight' has shape {}, expected vocabulary x n_embd",
                     shape_to_string(emb->shape));
  }
  result_.config.n_vocab = emb->shape[0];
  result_.config.n_embd = emb->shape[1];
  if (result_.config.version == Version::V4) {
    return {};
  }
  return derive_heads();
}

// Heads come from the one tensor that is [H, N], or from a decay per head and the width.
Status Binder::derive_heads() {
  ModelConfig& config = result_.config;
  const TensorInfo* norm = index_.find("blocks.0.att.ln_x.weight");
  if (!norm) {
    return bad_input(
        "tensor 'blocks.0.att.ln_x.weight' is missing, expected a vector of the attention's width");
  }
  const uint64_t width = norm->n_elements();
  const char* name = is_v7(config.version)           ? "blocks.0.att.r_k"
                     : config.version == Version::V6 ? "blocks.0.att.time_faaaa"
                                                     : "blocks.0.att.time_decay";
  const TensorInfo* heads = index_.find(name);
  if (!heads) {
    return bad_input("tensor '{}' is missing, expected it with a row for each head", name);
  }
  std::vector<uint64_t> shape = heads->shape;
  while (shape.size() > 1 && shape.back() == 1) {
    shape.pop_back();
  }
  const bool per_head = config.version == Version::V5_0 || config.version == Version::V5_1;
  uint64_t n_head = 0;
  if (per_head && !shape.empty()) {
    n_head = shape.back();
  } else if (!per_head && shape.size() >= 2) {
    n_head = shape[shape.size() - 2];
  }
  if (n_head == 0 || width % n_head != 0 || width > kMaxSize) {
    return bad_input("tensor '{}' has shape {}: {} channels do not split into such heads", name,
                     shape_to_string(heads->shape), width);
  }
  config.n_head = n_head;
  config.head_size = width / n_head;
  config.dim_att = width;
  return {};
}

Status Binder::check_shape(const TensorSpec& spec, const TensorInfo& tensor,
                           std::vector<uint64_t>& canonical) {
  const size_t n_dims = spec.n_dims();
  const bool swapped = shapes_ == ShapesAre::AsPacked && spec.layout == Layout::Transposed;
  std::vector<uint64_t> found = tensor.shape;
  if (swapped && found.size() >= 2) {
    std::swap(found[found.size() - 1], found[found.size() - 2]);
  }
  const std::vector<uint64_t> kept = squeezed(found);
  canonical.clear();
  for (size_t i = 0; i < n_dims; ++i) {
    // A free symbol of a vector is bound by its one dimension, of a matrix by the same position.
    const uint64_t here = found.size() == n_dims            ? found[i]
                          : n_dims == 1 && kept.size() == 1 ? kept[0]
                                                            : 0;
    auto size = expected(spec.shape[i], here);
    if (!size.ok()) {
      return bad_input("tensor '{}' has shape {}: {}", tensor.name, shape_to_string(tensor.shape),
                       size.status().message());
    }
    canonical.push_back(size.value());
  }
  const bool fits = spec.role == Role::Vector ? fits_vector(found, canonical) : found == canonical;
  if (!fits) {
    return bad_input("tensor '{}' has shape {}, expected {} for {}", tensor.name,
                     shape_to_string(found), shape_to_string(canonical),
                     version_traits(result_.config.version).name);
  }
  return {};
}

void Binder::add(const TensorInfo& tensor, Role role, Part part, Layout layout, int64_t block,
                 std::vector<uint64_t> shape) {
  const size_t source = index_.index_of(&tensor);
  bound_[source] = true;
  result_.tensors.push_back({tensor.name, source, role, part, layout, block, std::move(shape)});
}

Status Binder::bind_dense(const TensorSpec& spec, const TensorInfo& tensor, int64_t block) {
  std::vector<uint64_t> shape;
  RWKV_TRY(check_shape(spec, tensor, shape));
  add(tensor, spec.role, Part::Dense, spec.layout, block, std::move(shape));
  return {};
}

Status Binder::bind(const TensorSpec& spec, const TensorSpec* alternative, int64_t block) {
  const std::string name = full_name(spec.name, block);
  if (const TensorInfo* tensor = index_.find(name)) {
    if (spec.where == Where::LaterBlocks && block == 0) {
      bind_ignored(index_.index_of(tensor), block);
      return {};
    }
    return bind_dense(spec, *tensor, block);
  }
  if (spec.where == Where::LaterBlocks && block == 0) {
    return {};
  }
  if (alternative) {
    if (const TensorInfo* tensor = index_.find(full_name(alternative->name, block))) {
      return bind_dense(*alternative, *tensor, block);
    }
  }
  if (spec.role == Role::Projection) {
    const std::string stem = name.substr(0, name.size() - std::string_view(".weight").size());
    if (const TensorInfo* factor_a = index_.find(stem + "1.weight")) {
      return bind_pair(spec, *factor_a, block);
    }
  }
  if (spec.presence == Presence::Optional) {
    return {};
  }
  return bad_input("tensor '{}' is missing, expected in {} with {} blocks", name,
                   version_traits(result_.config.version).name, result_.config.n_layer);
}

// RWKV-Lite's names: key1 is [rank, in], key2 is [out, rank]; apply 1 first.
Status Binder::bind_pair(const TensorSpec& spec, const TensorInfo& factor_a, int64_t block) {
  const std::string stem =
      factor_a.name.substr(0, factor_a.name.size() - std::string_view("1.weight").size());
  const TensorInfo* factor_b = index_.find(stem + "2.weight");
  if (!factor_b) {
    return bad_input("tensor '{}2.weight' is missing, but '{}' exists", stem, factor_a.name);
  }
  RWKV_ASSIGN(const uint64_t n_out, expected(spec.shape[0], 0));
  RWKV_ASSIGN(const uint64_t n_in, expected(spec.shape[1], 0));
  const uint64_t rank = factor_a.shape.empty() ? 0 : factor_a.shape[0];
  const std::vector<uint64_t> wanted_a = {rank, n_in};
  const std::vector<uint64_t> wanted_b = {n_out, rank};
  if (rank == 0 || rank > kMaxSize || factor_a.shape != wanted_a) {
    return bad_input("tensor '{}' has shape {}, expected rank x {}", factor_a.name,
                     shape_to_string(factor_a.shape), n_in);
  }
  if (factor_b->shape != wanted_b) {
    return bad_input("tensor '{}' has shape {}, expected {} to match '{}'", factor_b->name,
                     shape_to_string(factor_b->shape), shape_to_string(wanted_b), factor_a.name);
  }
  has_pair_ = true;
  add(factor_a, spec.role, Part::FactorA, Layout::AsIs, block, wanted_a);
  add(*factor_b, spec.role, Part::FactorB, Layout::AsIs, block, wanted_b);
  return bind_diagonal(spec, stem, block);
}

Status Binder::bind_diagonal(const TensorSpec& spec, std::string_view stem, int64_t block) {
  const TensorInfo* diagonal = index_.find(std::string(stem) + "_diag");
  if (!diagonal) {
    return {};
  }
  const uint64_t n = size_of(spec.shape[0]);
  const uint64_t n_in = size_of(spec.shape[1]);
  if (n_in != n) {
    return bad_input("tensor '{}': a diagonal needs a square projection, this one is {}x{}",
                     diagonal->name, n, n_in);
  }
  if (!fits_vector(diagonal->shape, {n})) {
    return bad_input("tensor '{}' has shape {}, expected {}", diagonal->name,
                     shape_to_string(diagonal->shape), n);
  }
  has_diagonal_ = true;
  add(*diagonal, Role::Vector, Part::Diagonal, Layout::AsIs, block, {n});
  return {};
}

void Binder::bind_ignored(size_t source, int64_t block) {
  const TensorInfo& tensor = index_.at(source);
  std::vector<uint64_t> shape = tensor.shape;
  if (shape.empty()) {
    shape = {1};
  }
  add(tensor, Role::Ignored, Part::Dense, Layout::AsIs, block, std::move(shape));
}

// What stages add comes in sets.
Status Binder::check_sets() const {
  const auto check = [&](std::initializer_list<std::string> names) -> Status {
    const auto is_there = [&](const std::string& name) { return index_.find(name) != nullptr; };
    const auto n = std::count_if(names.begin(), names.end(), is_there);
    if (n != 0 && static_cast<size_t>(n) != names.size()) {
      return bad_input("tensor '{}' is missing, but others of its set exist",
                       *std::find_if_not(names.begin(), names.end(), is_there));
    }
    return {};
  };
  RWKV_TRY(
      check({"head.tokens", "head.cluster.first", "head.cluster.weight", "head.cluster.bias"}));
  if (result_.config.n_cluster > kMostClusters) {
    return bad_input("tensor 'head.cluster.first' names {} clusters, at most {} are accepted",
                     result_.config.n_cluster, kMostClusters);
  }
  for (uint64_t i = 0; i < result_.config.n_layer; ++i) {
    const std::string stem = fmt::format("blocks.{}.ffn.predictor.", i);
    RWKV_TRY(check({stem + "fc1.weight", stem + "fc2.weight"}));
    const bool has_any = index_.find(stem + "sign.weight") || index_.find(stem + "fc1.weight");
    if (has_any != (index_.find(stem + "threshold") != nullptr)) {
      return bad_input("tensors '{}*': a predictor and its threshold belong together", stem);
    }
  }
  return {};
}

Identified Binder::take() {
  // RWKV-Lite's enhanced form (x059) always has the diagonal, its simple form (x058) never.
  result_.config.low_rank = has_diagonal_ ? LowRankForm::ReluSquared
                            : has_pair_   ? LowRankForm::Linear
                                          : LowRankForm::None;
  return std::move(result_);
}

}  // namespace rwkv
