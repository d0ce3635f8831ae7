// The list of quantizers. Adding one: a file in this folder and a line here
// (docs/adding/quantizer.md).
#include "compressor/quantizers/gptvq.h"
#include "compressor/quantizers/learnt.h"
#include "compressor/quantizers/nearest.h"
#include "compressor/quantizers/quantizer.h"

namespace rwkv::press {
namespace {

constexpr QuantizerTraits kQuantizers[] = {
    {"nearest", "each value to the nearest that the codec can hold", make_nearest_quantizer},
    {"rtn", "the same under its usual name; lut codecs get scales of least squared error",
     make_nearest_quantizer},
    {"weighted", "nearest, with scales for the mean squares of the inputs",
     make_weighted_quantizer},
    {"gptq", "each input makes up for the errors of those before it", make_gptq_quantizer},
    {"gptq_uniform", "gptq with evenly spaced values, to compare with",
     make_gptq_uniform_quantizer},
    {"gptvq_table", "gptq with a table of values learnt for each matrix",
     make_gptvq_table_quantizer},
    {"gptvq", "gptq with a codebook for each few hundred weights; packed in f16, to compare with",
     make_gptvq_quantizer},
    {"refined", "gptq, then scales by least squares and codes by descent, in turn",
     make_refined_quantizer},
};

}  // namespace

std::span<const QuantizerTraits> quantizer_list() {
  return kQuantizers;
}

std::vector<const char*> quantizer_names() {
  std::vector<const char*> names;
  for (const QuantizerTraits& quantizer : quantizer_list()) {
    names.push_back(quantizer.name);
  }
  return names;
}

}  // namespace rwkv::press
