#include "tests/compressor/pretend_device.h"

#include <ATen/core/Tensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace rwkv::test {
namespace {

using Bytes = c10::Storage::use_byte_size_t;

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         c10::optional<at::ScalarType> type, c10::optional<at::Layout> /*layout*/,
                         c10::optional<at::Device> /*device*/, c10::optional<bool> /*pinned*/) {
  const auto dtype = c10::scalarTypeToTypeMeta(type.value_or(at::kFloat));
  size_t n = 1;
  for (size_t i = 0; i < sizes.size(); ++i) {
    n = sizes[i] == 0 ? 0 : n + static_cast<size_t>((sizes[i] - 1) * strides[i]);
    if (n == 0) {
      break;
    }
  }
  const size_t n_bytes = n * dtype.itemsize();
  void* const data = std::malloc(std::max<size_t>(n_bytes, 1));
  c10::Storage storage(Bytes(), n_bytes, c10::DataPtr(data, data, &std::free, kPretendDevice),
                       nullptr, /*resizable=*/false);
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), dtype);
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return tensor;
}

at::Tensor empty(at::IntArrayRef sizes, c10::optional<at::ScalarType> type,
                 c10::optional<at::Layout> layout, c10::optional<at::Device> device,
                 c10::optional<bool> pinned, c10::optional<at::MemoryFormat> /*format*/) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) {
    strides[i - 1] = strides[i] * std::max<int64_t>(sizes[i], 1);
  }
  return empty_strided(sizes, strides, type, layout, device, pinned);
}

// The same memory, as a tensor of the CPU.
at::Tensor on_cpu(const at::Tensor& tensor) {
  return tensor.is_cpu() ? tensor
                         : at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                                         tensor.options().device(at::kCPU));
}

at::Tensor& copy(at::Tensor& to, const at::Tensor& from, bool /*non_blocking*/) {
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool /*non_blocking*/) {
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

// Of results: LibTorch calls it for those that it was given, which may be empty still.
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes()) {
    const at::Tensor whole = empty(from.sizes(), to.scalar_type(), c10::nullopt, c10::nullopt,
                                   c10::nullopt, c10::nullopt);
    to.unsafeGetTensorImpl()->set_storage_keep_dtype(whole.storage());
    to.unsafeGetTensorImpl()->set_sizes_and_strides(whole.sizes(), whole.strides());
  }
  return copy_from(from, to, false);
}

// As on a GPU: a single number may lie on the CPU, no other operand.
void check(const c10::OperatorHandle& op, const at::Tensor& operand) {
  TORCH_CHECK(!operand.defined() || operand.dim() == 0 || operand.device() == kPretendDevice,
              op.schema().name(), ": an operand is not on the pretend device but on ",
              operand.device());
}

// Operations are computed on the CPU.
void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  for (const c10::IValue& argument : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (argument.isTensor()) {
      check(op, argument.toTensor());
    } else if (argument.isTensorList()) {
      for (const at::Tensor& operand : argument.toTensorVector()) {
        check(op, operand);
      }
    }
  }
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("unfold", &at::native::unfold);
  library.impl("copy_", &copy);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>());
}

}  // namespace
}  // namespace rwkv::test

namespace c10::impl {
C10_REGISTER_GUARD_IMPL(PrivateUse1, NoOpDeviceGuardImpl<DeviceType::PrivateUse1>)
}  // namespace c10::impl
