// The list of stages. Adding one: a file in this folder and a line here (docs/adding/stage.md).
#include "compressor/stages/quantize.h"
#include "compressor/stages/stage.h"

namespace rwkv::press {
namespace {

constexpr StageTraits kStages[] = {
    {"quantize", make_quantize_stage},
};

}  // namespace

std::span<const StageTraits> stage_list() {
  return kStages;
}

}  // namespace rwkv::press
