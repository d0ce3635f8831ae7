#include "compressor/checkpoint/synth.h"

#include <vector>

#include "compressor/checkpoint/new_model.h"
#include "compressor/checkpoint/synth_values.h"
#include "compressor/checkpoint/write.h"

namespace rwkv::press {

Result<ModelConfig> write_synthetic(const SynthOptions& options) {
  RWKV_ASSIGN(const ModelConfig config, new_model_config(options.model));
  const DTypeTraits* dtype = find_dtype(options.dtype);
  if (!dtype ||
      (dtype->dtype != DType::BF16 && dtype->dtype != DType::F16 && dtype->dtype != DType::F32)) {
    return usage_error("--dtype: expected bf16, f16 or f32, found '{}'", options.dtype);
  }
  const std::vector<NewTensor> tensors = new_model_tensors(config, options.model.rank);
  std::vector<TensorInfo> infos;
  for (const NewTensor& tensor : tensors) {
    infos.push_back({tensor.name, dtype->dtype, tensor.shape});
  }
  const auto make = [&](size_t index, std::vector<std::byte>& out) -> Status {
    const NewTensor& tensor = tensors[index];
    const double depth =
        config.n_layer > 1 && tensor.block > 0
            ? static_cast<double>(tensor.block) / static_cast<double>(config.n_layer - 1)
            : 0.0;
    const std::vector<float> values =
        synth_values({tensor.name, tensor.role, tensor.layout, tensor.shape, depth}, options.seed);
    encode_from_f32(dtype->dtype, values, out);
    options.progress(static_cast<double>(index + 1) / static_cast<double>(infos.size()));
    return {};
  };
  RWKV_TRY(write_checkpoint(options.output, options.existing, infos, make));
  return config;
}

}  // namespace rwkv::press
