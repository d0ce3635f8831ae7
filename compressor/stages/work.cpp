#include "compressor/stages/work.h"

#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/block_walk.h"

namespace rwkv::press {

Result<Work> Work::begin(WorkContext context, const TensorSource& base, PackPlan plan,
                         const std::string& scratch_folder) {
  RWKV_ASSIGN(auto data, ScratchFile::unnamed(scratch_folder));
  return begin(std::move(context), base, std::move(plan), std::move(data));
}

Work Work::begin(WorkContext context, const TensorSource& base, PackPlan plan,
                 std::unique_ptr<ScratchFile> data) {
  return Work{std::move(context),
              EditedSource::create(base, std::move(data)),
              std::move(plan),
              {},
              {},
              false};
}

Result<at::Tensor> Work::last_hidden() {
  if (!hidden.defined()) {
    const BlockWalk walk{.source = *source,
                         .config = plan.config,
                         .calibration = &*calibration,
                         .progress = [&](Share share) { progress("activations", share); }};
    RWKV_ASSIGN(hidden, walk.run([](BlockVisit&) { return Status(); }));
  }
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
