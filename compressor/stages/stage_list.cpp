// The list of stages. Adding one: a file in this folder and a line here (docs/adding/stage.md).
#include "compressor/stages/cluster_head.h"
#include "compressor/stages/external.h"
#include "compressor/stages/ffn_predictor.h"
#include "compressor/stages/low_rank.h"
#include "compressor/stages/quantize.h"
#include "compressor/stages/refit.h"
#include "compressor/stages/shards.h"
#include "compressor/stages/stage.h"
#include "compressor/stages/train.h"

namespace rwkv::press {
namespace {

constexpr StageTraits kStages[] = {
    {"low_rank", make_low_rank_stage},
    {"refit", make_refit_stage},
    {"train", make_train_stage, /*is_free=*/false, /*last_with=*/"codes"},
    {"external", make_external_stage, /*is_free=*/true},
    {"cluster_head", make_cluster_head_stage},
    {"ffn_predictor", make_ffn_predictor_stage},
    {"quantize", make_quantize_stage},
    {"shards", make_shards_stage},
};

}  // namespace

std::span<const StageTraits> stage_list() {
  return kStages;
}

}  // namespace rwkv::press
