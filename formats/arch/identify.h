// Which model is this? Decides the version of a checkpoint by names and shapes, derives every size
// from the tensors, and binds each tensor to its row of the version's table. A file that almost
// fits is refused with the name and the shape that does not.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/arch/model_config.h"
#include "formats/arch/tensor_spec.h"
#include "formats/container/tensor_source.h"

namespace rwkv {

/// Which part of a table row a tensor is: the row itself, or a piece of the factor pair that stands
/// in for it (y = factor_b (factor_a x) + diagonal * x).
enum class Part : uint8_t { Dense, FactorA, FactorB, Diagonal };

struct TensorBinding {
  std::string name;   ///< full name: "blocks.3.att.key1.weight"
  size_t source = 0;  ///< index into the list given to identify()
  Role role = Role::Vector;
  Part part = Part::Dense;
  Layout layout = Layout::AsIs;
  int64_t block = -1;           ///< -1 for tensors of the whole model
  std::vector<uint64_t> shape;  ///< canonical: {n}, {out, in} or {5, r, n}, as BlinkDL stores it

  /// The shape as packed: the last two dimensions are swapped where the layout says so.
  std::vector<uint64_t> packed_shape() const;
  /// The matrix as packed: a vector is one row, leading dimensions are folded into the rows.
  uint64_t packed_rows() const;
  uint64_t packed_cols() const;
};

struct Identified {
  ModelConfig config;
  /// In the order of use (order_of_use.h), which is the order of a packed file.
  std::vector<TensorBinding> tensors;
};

/// Shapes in the list are as in a checkpoint, or as in a packed file (some matrices transposed).
enum class ShapesAre { AsInCheckpoint, AsPacked };

/// `tensors` in any order. Failures are BadInput.
Result<Identified> identify(std::span<const TensorInfo> tensors, ShapesAre shapes);

/// Whether the time_decay of a v5 model of `n_channels` is one per channel, [H, N] (v5.2), and not
/// one per head: [H], [H,1], [H,1,1] or [1,H] (v5.0, v5.1).
bool decay_is_per_channel(const TensorInfo& decay, uint64_t n_channels);

}  // namespace rwkv
