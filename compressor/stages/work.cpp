#include "compressor/stages/work.h"

#include "compressor/calibrate/walk.h"

namespace rwkv::press {

Result<at::Tensor> Work::last_hidden() {
  if (hidden.defined()) {
    return hidden;
  }
  RWKV_ASSIGN(Walk walk, Walk::begin(*source, plan.config, calibration->tokens));
  for (uint64_t i = 0; i < plan.config.n_layer; ++i) {
    RWKV_ASSIGN(const auto block, Block::load(*source, plan.config, static_cast<int64_t>(i)));
    walk.pass(*block, {});
    progress("activations", static_cast<double>(i + 1) / static_cast<double>(plan.config.n_layer));
  }
  hidden = walk.hidden();
  return hidden;
}

Status Work::put(const std::string& name, const at::Tensor& values) {
  const at::Tensor flat = values.to(at::kFloat).contiguous();
  std::vector<uint64_t> shape(flat.sizes().begin(), flat.sizes().end());
  return source->put(name, std::move(shape),
                     {flat.data_ptr<float>(), static_cast<size_t>(flat.numel())});
}

Status Work::replace(const std::string& name, const at::Tensor& values) {
  RWKV_ASSIGN(const size_t index, source->index_of(name));
  const at::Tensor flat = values.to(at::kFloat).contiguous();
  return source->put(name, source->tensors()[index].shape,
                     {flat.data_ptr<float>(), static_cast<size_t>(flat.numel())});
}

}  // namespace rwkv::press
