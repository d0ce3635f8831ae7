// The decisions of a plan, and the recipe for them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compressor/stages/plan.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// A matrix that a plan decides about.
struct PlannedMatrix {
  std::string name;     ///< "blocks.3.att.key.weight"
  std::string product;  ///< within its block: "att.key"; empty for embedding and head
  Role role = Role::Projection;
  int64_t block = -1;
  uint64_t rows = 0, cols = 0;  ///< as in the checkpoint: [out, in]
  Layout layout = Layout::AsIs;
  bool may_pair = false;

  /// Columns as packed.
  uint64_t packed_cols() const { return layout == Layout::Transposed ? rows : cols; }
};

/// The matrices of a dense model in the order of a forward pass: embedding, projections and FFN of
/// each block, head. Usage if the model has factor pairs, predictors or clusters already.
Result<std::vector<PlannedMatrix>> planned_matrices(const Identified& model);

/// The setting of one matrix.
struct MatrixSetting {
  double factor = 0;  ///< of the pair's rank; 0: dense
  /// Of the matrix, or of both factors; factors of other than whole groups of columns, and matrices
  /// in a choice that treats all alike, have what codec_for_columns() makes of it.
  Codec codec{};

  bool operator==(const MatrixSetting&) const = default;
};

/// How pairs are found. All pairs of a plan are fitted to the dense model's own activations, so
/// that the cost of one matrix does not depend on the order.
struct PairMethod {
  bool whitened = true;
  bool diagonal = false;
};

/// Bytes of a matrix in this setting, without a diagonal.
uint64_t encoded_bytes(const PlannedMatrix& matrix, const MatrixSetting& setting);

/// The rank that stage low_rank uses for a factor.
int64_t rank_of(double factor, uint64_t rows, uint64_t cols);

struct Choice {
  PairMethod method;
  std::vector<MatrixSetting> matrices;  ///< as planned_matrices
  Codec lora{};                         ///< of the `*_lora` matrices that v6 and v7 have
  double recall = 0;                    ///< of the FFN predictors; 0: none
  double p_min = 0;                     ///< of the clustered head; 0: one matrix
};

/// All of `n` matrices dense in one codec, and the lora matrices in `lora`.
Choice dense_choice(size_t n, Codec codec, Codec lora);

/// The parts of a recipe besides the choice.
struct RecipeFrame {
  std::string name;
  uint64_t seed = 0;
  uint64_t samples = 64, length = 256;  ///< of the calibration
  uint64_t clusters = 200;
  uint64_t hidden = 64;  ///< width of the predictors' MLP
};

/// Clusters and widths for a model of this size.
RecipeFrame frame_for(const ModelConfig& config);

/// The recipe as YAML: an ordinary one, with an override for each matrix that differs.
std::string recipe_yaml(const Choice& choice, const std::vector<PlannedMatrix>& matrices,
                        const RecipeFrame& frame);

/// "f16", "i8_row", "k = 4, i8_row".
std::string describe(const MatrixSetting& setting);

}  // namespace rwkv::press
