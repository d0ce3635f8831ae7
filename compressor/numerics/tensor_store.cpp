#include "compressor/numerics/tensor_store.h"

#include <span>

#include "compressor/numerics/tensor_ops.h"
#include "formats/base/checksum.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

// The file: the tensors' values, one after the other, and the XXH64 of all of them.
std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {reinterpret_cast<const std::byte*>(tensor.data_ptr<float>()), tensor.nbytes()};
}

Status write(const std::string& path, const std::vector<at::Tensor>& tensors) {
  RWKV_ASSIGN(const auto file, OutputFile::create(path, OutputFile::Existing::Replace));
  for (const at::Tensor& tensor : tensors) {
    RWKV_TRY(file->write(bytes_of(tensor.contiguous())));
  }
  const uint64_t checksum = hash_of(tensors);
  RWKV_TRY(file->write(std::as_bytes(std::span(&checksum, 1))));
  return file->commit();
}

Result<std::vector<at::Tensor>> read(const std::string& path,
                                     const std::vector<std::vector<int64_t>>& shapes) {
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  std::vector<at::Tensor> tensors;
  uint64_t at = 0;
  for (const std::vector<int64_t>& shape : shapes) {
    const at::Tensor& tensor = tensors.emplace_back(at::empty(shape, at::kFloat));
    RWKV_TRY(file->read_at(
        at, {reinterpret_cast<std::byte*>(tensor.data_ptr<float>()), tensor.nbytes()}));
    at += tensor.nbytes();
  }
  uint64_t checksum = 0;
  RWKV_TRY(file->read_at(at, std::as_writable_bytes(std::span(&checksum, 1))));
  if (checksum != hash_of(tensors)) {
    return bad_input("{}: is damaged", path);
  }
  return tensors;
}

}  // namespace

uint64_t hash_of(const std::vector<at::Tensor>& tensors) {
  StreamingXxh64 hash;
  for (const at::Tensor& tensor : tensors) {
    hash.update(bytes_of(tensor.contiguous()));
  }
  return hash.digest();
}

std::optional<std::vector<at::Tensor>> TensorStore::find(
    const std::string& name, const std::vector<std::vector<int64_t>>& shapes) const {
  if (!keeps()) {
    return std::nullopt;
  }
  auto tensors = read(folder_ + "/" + name, shapes);
  return tensors.ok() ? std::optional(tensors.take()) : std::nullopt;
}

void TensorStore::keep(const std::string& name, const std::vector<at::Tensor>& tensors) const {
  if (keeps()) {
    // They are computed again if this did not work.
    static_cast<void>(write(folder_ + "/" + name, tensors).ok());
  }
}

}  // namespace rwkv::press
