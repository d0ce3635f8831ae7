#include "runtime/model/pass_needs.h"

#include <algorithm>
#include <vector>

#include "runtime/account/account.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/block.h"

namespace rwkv::edge {
namespace {

bool is_multiplied(Role role) {
  switch (role) {
    case Role::Lora:
    case Role::Projection:
    case Role::FfnKey:
    case Role::Head:
    case Role::Predictor:
    case Role::SignBits:
    case Role::ClusterHead:
      return true;
    case Role::Vector:
    case Role::FfnValue:  // rows are added up, which takes floats
    case Role::Embedding:
    case Role::TokenRows:
    case Role::InitialState:
    case Role::Ignored:
      return false;
  }
  return false;
}

// A matrix in as many slices as its leading dimension says, each with inputs of its own.
void add_products(const TensorBinding& binding, Codec codec, PassNeeds& needs) {
  const size_t n_slices = binding.shape.size() == 3 ? binding.shape[0] : 1;
  const size_t cols = binding.packed_cols();
  needs.n_products += n_slices;
  switch (input_form(codec)) {
    case InputForm::Floats:
      break;
    case InputForm::BytePlanes:
      needs.planes += n_slices * byte_planes_size(cols);
      [[fallthrough]];
    case InputForm::Integers:
      needs.integers += n_slices * padded_cols(cols);
      break;
    case InputForm::ByteGroups:
      needs.byte_groups += n_slices * n_byte_groups(cols);
      break;
  }
  if (uses_group_sums(codec)) {
    needs.group_sums += n_slices * n_group_sums(cols);
  }
  needs.arena += binding.part == Part::FactorA ? binding.shape[0] : 0;
}

// Its pieces may come in other codecs, which may need their inputs in other forms.
void add_narrower(const PackedFile& file, const TensorBinding& binding, PassNeeds& needs) {
  std::vector<Codec> codecs = {file.tensors[binding.source].codec};
  for (const ShardedMatrix& matrix : file.shards) {
    if (matrix.tensor != binding.source) {
      continue;
    }
    for (const ShardPiece& piece : matrix.pieces) {
      for (const ShardVersion& version : piece.versions) {
        if (version.tensor == ShardVersion::kNothing) {
          continue;
        }
        const Codec codec = file.tensors[version.tensor].codec;
        if (std::find(codecs.begin(), codecs.end(), codec) == codecs.end()) {
          codecs.push_back(codec);
          add_products(binding, codec, needs);
        }
      }
    }
  }
}

void take_larger(const PassNeeds& part, PassNeeds& all) {
  all.arena = std::max(all.arena, part.arena);
  all.n_products = std::max(all.n_products, part.n_products);
  all.integers = std::max(all.integers, part.integers);
  all.planes = std::max(all.planes, part.planes);
  all.group_sums = std::max(all.group_sums, part.group_sums);
  all.byte_groups = std::max(all.byte_groups, part.byte_groups);
}

}  // namespace

PassNeeds pass_needs(const PackedFile& file) {
  // Both halves of each block, and the ends of the model.
  const size_t n_layer = file.config.n_layer;
  std::vector<PassNeeds> parts(2 * n_layer + 1);
  for (size_t i = 0; i < n_layer; ++i) {
    parts[2 * i].arena = time_mix_floats(file.config);
    parts[2 * i + 1].arena = channel_mix_floats(file.config);
  }
  for (const TensorBinding& binding : file.bindings) {
    if (is_multiplied(binding.role)) {
      const bool is_time_mix = component_of(binding) == Component::TimeMix;
      const size_t part = binding.block < 0
                              ? 2 * n_layer
                              : 2 * static_cast<size_t>(binding.block) + (is_time_mix ? 0 : 1);
      add_products(binding, file.tensors[binding.source].codec, parts[part]);
      add_narrower(file, binding, parts[part]);
    }
  }
  PassNeeds needs;
  for (const PassNeeds& part : parts) {
    take_larger(part, needs);
  }
  return needs;
}

}  // namespace rwkv::edge
