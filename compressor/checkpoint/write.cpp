#include "compressor/checkpoint/write.h"

#include <filesystem>

#include "compressor/checkpoint/pth_writer.h"
#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/container/safetensors_writer.h"

namespace rwkv::press {

Status check_checkpoint_name(const std::string& path) {
  const std::string ending = std::filesystem::path(path).extension().string();
  if (ending != ".pth" && ending != ".safetensors" && ending != ".st") {
    return usage_error(
        "output '{}': expected a name that ends in .pth, .safetensors or .st, found '{}'{}", path,
        ending,
        ending == ".gguf" ? "; a GGUF for llama.cpp needs --to llama.cpp, a packed file convert"
                          : "");
  }
  return {};
}

Status write_checkpoint(
    const std::string& path, OutputFile::Existing existing, std::span<const TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor) {
  RWKV_TRY(check_checkpoint_name(path));
  return std::filesystem::path(path).extension() == ".pth"
             ? write_pth(path, existing, tensors, read_tensor)
             : write_safetensors(path, existing, tensors, read_tensor);
}

void encode_from_f32(DType dtype, std::span<const float> values, std::vector<std::byte>& out) {
  const size_t size = traits(dtype).block_bytes;
  out.resize(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte* to = out.data() + i * size;
    if (dtype == DType::BF16) {
      store_le(to, f32_to_bf16(values[i]));
    } else if (dtype == DType::F16) {
      store_le(to, f32_to_f16(values[i]));
    } else if (dtype == DType::F64) {
      store_le(to, static_cast<double>(values[i]));
    } else {
      store_le(to, values[i]);
    }
  }
}

Status read_as(const TensorSource& source, size_t index, DType dtype, std::vector<std::byte>& out) {
  const TensorInfo& info = source.tensors()[index];
  if (info.dtype == dtype) {
    return source.read(index, out);
  }
  std::vector<std::byte> raw;
  RWKV_TRY(source.read(index, raw));
  std::vector<float> values(info.n_elements());
  decode_to_f32(info.dtype, raw, values);
  encode_from_f32(dtype, values, out);
  return {};
}

}  // namespace rwkv::press
