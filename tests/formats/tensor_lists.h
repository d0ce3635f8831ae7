// Lists of tensors as a checkpoint of any version has them, made from the version tables with
// sizes of the caller's choice. For the tests of identify(), and its fuzz target.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/arch/identify.h"
#include "formats/arch/versions.h"

namespace rwkv::test {

/// Symbols of the tables as numbers. No two are equal, so that mixing them up is seen.
struct ModelSizes {
  uint64_t n_layer = 3;
  uint64_t n_vocab = 101;
  uint64_t n_embd = 26;
  uint64_t dim_ffn = 67;
  uint64_t n_head = 2;
  uint64_t head_size = 11;  ///< with n_head the attention width, which is not n_embd here
  uint64_t mix_lora = 3;
  uint64_t decay_lora = 4;
  uint64_t iclr_lora = 5;
  uint64_t value_lora = 6;
  uint64_t gate_lora = 7;
  uint64_t deep_embed = 3;

  uint64_t dim_att() const { return n_head * head_size; }
};

/// What identify() should find for a model of these sizes.
ModelConfig expected_config(Version version, const ModelSizes& sizes);

struct ListOptions {
  ShapesAre shapes = ShapesAre::AsInCheckpoint;
  bool time_first = false;          ///< where a table has alternatives, the second one
  bool first_block_values = false;  ///< v7: v0, v1, v2 in block 0 too
};

/// Every tensor of the version's table, in the order of the table, shapes as the table says.
std::vector<TensorInfo> tensors_of(Version version, const ModelSizes& sizes,
                                   const ListOptions& options = {});

/// Replaces the weight `stem`.weight by `stem`1.weight and `stem`2.weight of `rank`, and, if asked
/// for, `stem`_diag; nothing happens if it is not in the list.
enum class Diagonal { No, Yes };
void replace_by_pair(std::vector<TensorInfo>& tensors, std::string_view stem, uint64_t rank,
                     Diagonal diagonal);

/// x058 (linear pairs) or x059 (with diagonals): four projections of time_mix and the receptance
/// of channel_mix in every block.
std::vector<TensorInfo> rwkv_lite_tensors(const ModelSizes& sizes, LowRankForm form);

/// The tensor of that name; nullptr if there is none.
TensorInfo* find_tensor(std::vector<TensorInfo>& tensors, std::string_view name);

}  // namespace rwkv::test
