// What a model is: its version and its sizes. Filled from the tensors of a checkpoint by
// identify(), written to and read from the metadata of a packed file.
#pragma once

#include <cstdint>
#include <string>

#include "formats/base/status.h"
#include "formats/container/gguf_metadata.h"

namespace rwkv {

enum class Version { V4, V5_0, V5_1, V5_2, V6, V7, V7a };
/// v7 and the versions that add to it: their time_mix is the same.
constexpr bool is_v7(Version version) {
  return version == Version::V7 || version == Version::V7a;
}

/// The form of factor pairs in place of dense projections: y = B(Ax) (+ d*x), or, as RWKV-Lite's
/// x059 checkpoints were trained, y = B(relu(Ax)^2) + d*x.
enum class LowRankForm { None, Linear, ReluSquared };
const char* low_rank_form_name(LowRankForm form);

/// Clusters of the vocabulary: the runtime has the number of each token's in 16 bits.
inline constexpr uint64_t kMostClusters = 0xffff;

struct ModelConfig {
  Version version = Version::V4;
  LowRankForm low_rank = LowRankForm::None;
  uint64_t n_layer = 0;
  uint64_t n_embd = 0;
  uint64_t n_vocab = 0;
  uint64_t dim_att = 0;
  uint64_t dim_ffn = 0;
  uint64_t n_head = 0;     ///< 0 for v4, whose recurrence is per channel
  uint64_t head_size = 0;  ///< 0 for v4
  // Inner sizes of the lora matrices of v6 and v7; 0 where there are none.
  uint64_t mix_lora = 0;
  uint64_t decay_lora = 0;
  uint64_t iclr_lora = 0;
  uint64_t value_lora = 0;
  uint64_t gate_lora = 0;
  uint64_t deep_embed = 0;        ///< side of v7a's square matrix of each token; 0: none
  uint64_t n_cluster = 0;         ///< of the vocabulary, at most kMostClusters; 0: one matrix
  uint64_t predictor_hidden = 0;  ///< of the MLP predictors; 0: none
  /// Epsilon of the group norm ln_x. 64e-5 = 1e-5 * 8^2, since training divides by
  /// head_size_divisor = 8 before a norm with 1e-5, whatever the size of heads. Tensors do not show
  /// it: where a file says otherwise, the reader of checkpoints sets it.
  float group_norm_eps = 64e-5f;

  /// Embedding rows are stored with ln0 applied, so that quantising them rounds what the network
  /// sees. Only packed files have it.
  bool ln0_folded = false;

  /// How clusters of the head are chosen for a token (RWKV-Lite): the most probable ones until
  /// their probabilities add up to p_min, at least k_min and at most k_max of them. The first
  /// cluster is always among them if it holds the most frequent tokens.
  float head_p_min = 0.95f;
  uint64_t head_k_min = 3;
  uint64_t head_k_max = 100;
  bool first_cluster_always = false;

  /// Floats of recurrent state per layer: two token-shift vectors and the wkv state.
  uint64_t state_floats_per_layer() const;
  uint64_t state_floats() const { return n_layer * state_floats_per_layer(); }
  /// Floats of the wkv part: 3 * dim_att for v4, n_head * head_size^2 after.
  uint64_t wkv_floats() const;
};

/// "v5.2"; "x058" and "x059" for v5.2 with factor pairs, as their authors call them.
std::string version_label(const ModelConfig& config);

/// "v5.2, 24 layers x 2048, ffn 7168, 32 heads of 64, vocabulary 65536".
std::string describe(const ModelConfig& config);

/// Writes the config as metadata keys "rwkv.*".
void config_to_metadata(const ModelConfig& config, GgufMetadata& metadata);
/// Reads them back; sizes are only plausible here, the tensors decide (see identify()).
Result<ModelConfig> config_from_metadata(const GgufMetadata& metadata);

}  // namespace rwkv
