#include "compressor/train/coded_weights.h"

#include <ATen/core/grad_mode.h>

#include <utility>

#include "compressor/numerics/tensor_ops.h"
#include "formats/base/checksum.h"

namespace rwkv::press {

void CodedWeights::add(CodedStart start, Place place) {
  const uint64_t parts[] = {fingerprint_, xxh64(start.codes)};
  fingerprint_ = xxh64(std::as_bytes(std::span(parts)));
  Entry entry;
  if (place.rows.defined()) {
    entry.inverse_rows = at::empty_like(place.rows);
    entry.inverse_rows.scatter_(0, place.rows, at::arange(place.rows.numel(), at::kLong));
  }
  entry.place = std::move(place);
  entry.start = std::move(start);
  const std::string name = entry.start.name;
  tensors_[name] = std::move(entry);
}

at::Tensor CodedWeights::as_packed(const Entry& entry, const at::Tensor& own) {
  const Place& place = entry.place;
  at::Tensor packed = own.reshape(place.shape);
  packed = place.rows.defined() ? packed.index_select(0, place.rows) : packed;
  packed = place.is_transposed ? packed.transpose(-1, -2) : packed;
  return packed.reshape(entry.packed.sizes()).contiguous();
}

at::Tensor CodedWeights::as_own(const Entry& entry) {
  const Place& place = entry.place;
  std::vector<int64_t> shape = place.shape;
  if (place.is_transposed) {
    std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  }
  at::Tensor own = entry.packed.reshape(shape);
  own = place.is_transposed ? own.transpose(-1, -2) : own;
  return place.rows.defined() ? own.index_select(0, entry.inverse_rows) : own;
}

Result<std::vector<Parameter>> CodedWeights::attach(std::span<const Parameter> leaves,
                                                    const Network::IsTrainable& moves) {
  std::vector<Parameter> parameters;
  for (const Parameter& leaf : leaves) {
    const auto found = tensors_.find(leaf.name);
    if (found == tensors_.end()) {
      const bool is_trained =
          moves(leaf.name) && (what_ == TrainCodes::All || leaf.values.dim() == 1);
      leaf.values.set_requires_grad(is_trained);
      if (is_trained) {
        parameters.push_back(leaf);
      }
      continue;
    }
    Entry& entry = found->second;
    entry.leaf = leaf.values;
    entry.packed = at::empty({static_cast<int64_t>(entry.start.shape.rows),
                              static_cast<int64_t>(entry.start.shape.cols)},
                             at::kFloat);
    entry.tensor = CodedTensor::make(entry.start, moves(leaf.name) ? what_ : TrainCodes::None);
    entry.start = {};
    const std::vector<Parameter>& own = entry.tensor->parameters();
    parameters.insert(parameters.end(), own.begin(), own.end());
    leaf.values.set_requires_grad(!own.empty());
  }
  RWKV_TRY(round());
  return parameters;
}

Status CodedWeights::round() {
  const at::NoGradGuard no_grad;
  for (auto& [name, entry] : tensors_) {
    if (entry.tensor) {
      RWKV_TRY(entry.tensor->round(entry.packed));
      at::Tensor leaf = entry.leaf.detach();
      leaf.copy_(as_own(entry).reshape(leaf.sizes()));
    }
  }
  return {};
}

void CodedWeights::settle(CodedTensor::Codes where) {
  const at::NoGradGuard no_grad;
  for (auto& [name, entry] : tensors_) {
    if (entry.tensor) {
      entry.tensor->settle(where);
    }
  }
}

void CodedWeights::take_gradients() {
  const at::NoGradGuard no_grad;
  for (auto& [name, entry] : tensors_) {
    if (entry.tensor && entry.leaf.grad().defined()) {
      entry.tensor->take_gradient(as_packed(entry, entry.leaf.grad().cpu()));
      entry.leaf.mutable_grad().reset();
    }
  }
}

Result<std::vector<std::byte>> CodedWeights::codes(const std::string& name) const {
  return tensors_.at(name).tensor->codes();
}

std::string CodedWeights::description() const {
  return fmt::format("{} of {} matrices, {:016x}",
                     what_ == TrainCodes::Scales ? "scales" : "codes and scales", tensors_.size(),
                     fingerprint_);
}

}  // namespace rwkv::press
