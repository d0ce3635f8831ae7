#include "compressor/checkpoint/tensor.h"

#include <optional>

#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

// LibTorch's type for a plain float dtype; nothing for block types.
std::optional<at::ScalarType> torch_type(DType dtype) {
  switch (dtype) {
    case DType::F32:
      return at::kFloat;
    case DType::F16:
      return at::kHalf;
    case DType::BF16:
      return at::kBFloat16;
    case DType::F64:
      return at::kDouble;
    case DType::I8:
    case DType::U8:
    case DType::I16:
    case DType::I32:
    case DType::I64:
    case DType::Bool:
    case DType::Q4_0:
    case DType::Q4_1:
    case DType::Q5_0:
    case DType::Q5_1:
    case DType::Q8_0:
    case DType::Q2_K:
    case DType::Q3_K:
    case DType::Q4_K:
    case DType::Q5_K:
    case DType::Q6_K:
    case DType::IQ4_NL:
    case DType::IQ4_XS:
      break;
  }
  return std::nullopt;
}

at::Tensor to_f32(DType dtype, std::vector<std::byte>& bytes, uint64_t n) {
  const auto count = static_cast<int64_t>(n);
  if (const auto type = torch_type(dtype)) {
    // copy = true: from_blob does not own, and `bytes` goes away.
    return at::from_blob(bytes.data(), {count}, at::TensorOptions(*type))
        .to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  }
  at::Tensor result = at::empty({count}, at::TensorOptions(at::kFloat));
  decode_to_f32(dtype, bytes, std::span(result.data_ptr<float>(), static_cast<size_t>(n)));
  return result;
}

}  // namespace

Result<at::Tensor> load_f32(const TensorSource& source, size_t index) {
  const TensorInfo& info = source.tensors()[index];
  std::vector<std::byte> bytes;
  RWKV_TRY(source.read(index, bytes));
  const std::vector<int64_t> shape(info.shape.begin(), info.shape.end());
  return to_f32(info.dtype, bytes, info.n_elements()).reshape(shape);
}

Result<at::Tensor> load_f32_range(const TensorSource& source, size_t index, uint64_t first,
                                  uint64_t n) {
  const TensorInfo& info = source.tensors()[index];
  const DTypeTraits& type = traits(info.dtype);
  std::vector<std::byte> bytes(n / type.block * type.block_bytes);
  RWKV_TRY(source.read_range(index, first / type.block * type.block_bytes, bytes));
  return to_f32(info.dtype, bytes, n);
}

}  // namespace rwkv::press
