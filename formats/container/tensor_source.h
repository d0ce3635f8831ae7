// What every checkpoint format offers once it is open: a list of named tensors, and the bytes of
// one of them at a time. No reader holds tensor data beyond a call to read().
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

/// How the numbers of a source tensor lie in its file. The Q formats are ggml's: blocks of 32
/// values (Q4_0 to Q8_0, IQ4_NL) or super-blocks of 256.
enum class DType {
  F32,
  F16,
  BF16,
  F64,
  I8,
  U8,
  I16,
  I32,
  I64,
  Bool,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q8_0,
  Q2_K,
  Q3_K,
  Q4_K,
  Q5_K,
  Q6_K,
  IQ4_NL,
  IQ4_XS,
};

/// One row per DType: the only list of their names and sizes.
struct DTypeTraits {
  DType dtype;
  const char* name;      ///< as printed and as stored in metadata: "f32", "bf16", "q5_1"
  uint32_t block;        ///< elements per block; 1 for plain types
  uint32_t block_bytes;  ///< bytes per block
  bool is_float;         ///< plain f32, f16, bf16, f64
};
std::span<const DTypeTraits> dtype_list();
const DTypeTraits& traits(DType dtype);
/// nullptr for a name that is not in the list.
const DTypeTraits* find_dtype(std::string_view name);

/// Name, type and shape of a tensor, outermost dimension first as in PyTorch.
struct TensorInfo {
  std::string name;
  DType dtype = DType::F32;
  std::vector<uint64_t> shape;

  uint64_t n_elements() const;  ///< product of the shape; 1 for a scalar
  uint64_t n_bytes() const;     ///< contiguous size in dtype; readers have checked for overflow
};

/// "128x512", "1x1x128", "scalar".
std::string shape_to_string(std::span<const uint64_t> shape);

/// n_elements and n_bytes without overflow, and blocks that divide the last dimension; the status
/// names the tensor. Every reader calls this before it accepts an entry.
Status check_tensor_size(const TensorInfo& info);

/// `n` elements in `dtype` (blocks decoded) as f32. `bytes` must hold them, `out` has n floats.
void decode_to_f32(DType dtype, std::span<const std::byte> bytes, std::span<float> out);

/// An open checkpoint.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// "pth", "safetensors", "rwkv.cpp", "gguf".
  virtual std::string_view format() const = 0;
  virtual const std::string& path() const = 0;
  /// In file order. Names are unique and follow BlinkDL's scheme where the format has another.
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  /// The bytes of tensor `index`, contiguous and row-major, replaced into `out`.
  virtual Status read(size_t index, std::vector<std::byte>& out) const = 0;
  /// Part of it: `n_bytes` from `offset` of the contiguous form, for converting a large tensor in
  /// slices. The default reads the whole tensor; formats that can do better override it.
  virtual Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const;
  /// Whether the values of tensor `index` were rounded to a few bits before: a second rounding adds
  /// to the first. The default says so of block types.
  virtual bool is_quantized(size_t index) const { return traits(tensors()[index].dtype).block > 1; }
  /// Strings the file carries beside its tensors (safetensors __metadata__, for inspect).
  virtual std::map<std::string, std::string> metadata() const { return {}; }
};

}  // namespace rwkv
