#include "compressor/predictors/checks.h"

#include <algorithm>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

constexpr int64_t kMinTokens = 256;

Status check_numbers(const at::Tensor& tensor, const char* name) {
  if (tensor.scalar_type() != at::kFloat || !tensor.device().is_cpu()) {
    return usage_error("{}: {} on {}; expected f32 on the CPU; convert them first", name,
                       c10::toString(tensor.scalar_type()), tensor.device().str());
  }
  if (!at::isfinite(tensor).all().item<bool>()) {
    return bad_input(
        "{}: found infinity or NaN among {} values; check the "
        "checkpoint and the calibration run that made them",
        name, tensor.numel());
  }
  return {};
}

}  // namespace

Status check_matrix(const at::Tensor& matrix, const char* name, const char* expected) {
  if (!matrix.defined() || matrix.dim() != 2 || matrix.numel() == 0) {
    return usage_error("{}: found {} dimensions and {} values; expected a matrix {}", name,
                       matrix.defined() ? matrix.dim() : 0, matrix.defined() ? matrix.numel() : 0,
                       expected);
  }
  return check_numbers(matrix, name);
}

Status check_norms(const at::Tensor& norms, int64_t neurons) {
  constexpr const char* kName = "norms of the value vectors";
  if (!norms.defined() || norms.dim() != 1 || norms.size(0) != neurons) {
    return usage_error("{}: found {} values; expected a vector of {}, one per neuron", kName,
                       norms.defined() ? norms.numel() : 0, neurons);
  }
  RWKV_TRY(check_numbers(norms, kName));
  if (norms.min().item<float>() < 0) {
    return usage_error(
        "{}: found {}, but none can be negative; pass the lengths of the columns of V", kName,
        norms.min().item<float>());
  }
  return {};
}

Status check_target(double target) {
  if (!(target > 0 && target <= 1)) {
    return usage_error("recall: expected more than 0 and at most 1, found {}; 0.99 is usual",
                       target);
  }
  return {};
}

Status check_layer(const at::Tensor& x, const at::Tensor& key, const at::Tensor& norms) {
  RWKV_TRY(check_matrix(x, "inputs of channel_mix", "[tokens, channels]"));
  RWKV_TRY(check_matrix(key, "key matrix", "[neurons, channels]"));
  if (x.size(1) != key.size(1)) {
    return usage_error("inputs of channel_mix have {} channels, expected {} as the key matrix has",
                       x.size(1), key.size(1));
  }
  if (x.size(0) < kMinTokens) {
    return usage_error("{} calibration tokens found; expected at least {}; use a longer text",
                       x.size(0), kMinTokens);
  }
  return check_norms(norms, key.size(0));
}

at::Tensor even_rows(const at::Tensor& matrix, int64_t count) {
  const int64_t rows = matrix.size(0);
  if (rows <= count) {
    return matrix;
  }
  const at::Tensor index = at::arange(count, at::kLong).mul_(rows).floor_divide_(count);
  return matrix.index_select(0, index);
}

at::Tensor round_to_half(const at::Tensor& matrix) {
  constexpr double kLargest = 65504;
  return matrix.clamp(-kLargest, kLargest).to(at::kHalf).to(at::kFloat);
}

}  // namespace rwkv::press
