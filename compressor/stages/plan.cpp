#include "compressor/stages/plan.h"

#include <algorithm>
#include <array>
#include <utility>

#include "formats/arch/order_of_use.h"
#include "formats/container/shard_index.h"

namespace rwkv::press {

std::vector<TensorBinding> bindings_of(const PackPlan& plan) {
  std::vector<TensorBinding> bindings;
  for (const PlannedTensor& tensor : plan.tensors) {
    bindings.push_back(tensor.binding);
  }
  return bindings;
}

PackPlan plan_for(const Identified& model) {
  PackPlan plan;
  plan.config = model.config;
  for (const TensorBinding& binding : model.tensors) {
    plan.tensors.push_back({binding, Codec::F32});
  }
  plan.dense_fp16_bytes = 2 * plan.n_numbers();
  return plan;
}

const PlannedTensor* PackPlan::find(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const PlannedTensor& t) { return t.binding.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

void PackPlan::replace(std::string_view name, std::vector<PlannedTensor> replacements) {
  tensors.erase(tensors.begin() + (find(name) - tensors.data()));
  add(std::move(replacements));
}

void PackPlan::add(std::vector<PlannedTensor> added) {
  const auto is_before = [](const PlannedTensor& a, const PlannedTensor& b) {
    return is_used_before(a.binding, b.binding);
  };
  for (PlannedTensor& tensor : added) {
    const auto at = std::upper_bound(tensors.begin(), tensors.end(), tensor, is_before);
    tensors.insert(at, std::move(tensor));
  }
}

std::vector<RowRange> pieces_of(uint64_t rows, uint64_t piece_rows) {
  std::vector<RowRange> pieces;
  for (uint64_t row = 0; row < rows; row += piece_rows) {
    pieces.push_back({row, std::min(piece_rows, rows - row)});
  }
  return pieces;
}

std::vector<PlannedCopy> copies_of(const PackPlan& plan) {
  std::vector<PlannedCopy> copies;
  const PlannedShards& shards = plan.shards;
  for (size_t m = 0; m < shards.matrices.size(); ++m) {
    const PlannedShards::Matrix& matrix = shards.matrices[m];
    const TensorBinding& binding = plan.find(matrix.name)->binding;
    const std::vector<RowRange> pieces = pieces_of(binding.packed_rows(), matrix.piece_rows);
    for (size_t w = 0; w < shards.widths.size(); ++w) {
      PlannedCopy copy{narrow_copy_name(matrix.name, shards.widths[w]),
                       matrix.codecs[w],
                       0,
                       binding.packed_cols(),
                       m,
                       w,
                       {}};
      for (size_t p = 0; copy.codec != Codec::F32 && p < pieces.size(); ++p) {
        if (matrix.losses[p * shards.widths.size() + w] != PlannedShards::kAbsent) {
          copy.rows += pieces[p].n;
          copy.pieces.push_back(p);
        }
      }
      if (copy.rows > 0) {
        copies.push_back(std::move(copy));
      }
    }
  }
  return copies;
}

uint64_t copy_bytes(const PackPlan& plan) {
  uint64_t bytes = 0;
  for (const PlannedCopy& copy : copies_of(plan)) {
    bytes += copy.encoded_bytes();
  }
  return bytes;
}

uint64_t PackPlan::total_bytes() const {
  uint64_t bytes = 0;
  for (const PlannedTensor& tensor : tensors) {
    bytes += tensor.encoded_bytes();
  }
  return bytes;
}

uint64_t PackPlan::n_numbers() const {
  uint64_t numbers = 0;
  for (const PlannedTensor& tensor : tensors) {
    numbers += tensor.binding.packed_rows() * tensor.binding.packed_cols();
  }
  return numbers;
}

}  // namespace rwkv::press
