#include "formats/container/adapted_source.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "formats/base/damaged.h"
#include "formats/base/little_endian.h"

namespace rwkv {
namespace {

float undone(Undo undo, float factor, float x) {
  const auto value = static_cast<double>(x);
  switch (undo) {
    case Undo::Nothing:
    case Undo::Transpose:
      return x;
    case Undo::LogMinusLog:
      return static_cast<float>(std::log(-std::log(value)));
    case Undo::Log:
      return static_cast<float>(std::log(value));
    case Undo::LogMinus:
      return static_cast<float>(std::log(-value));
    case Undo::Scale:
      return x * factor;
  }
  return x;
}

// The range of the converter's transformation. Its ends are included: 0 and 1 become infinities,
// which the model's own transformation turns back.
const char* expected_range(Undo undo) {
  switch (undo) {
    case Undo::LogMinusLog:
      return "0 to 1";
    case Undo::Log:
      return "0 or more";
    case Undo::LogMinus:
      return "0 or less";
    case Undo::Nothing:
    case Undo::Transpose:
    case Undo::Scale:
      return nullptr;
  }
  return nullptr;
}

TensorInfo stored_info(const AdaptedTensor& tensor) {
  return {tensor.info.name, tensor.stored, tensor.info.shape};
}

class AdaptedSource final : public TensorSource {
 public:
  AdaptedSource(std::string_view format, std::shared_ptr<InputFile> file,
                std::vector<AdaptedTensor> tensors, std::map<std::string, std::string> metadata)
      : format_(format),
        file_(std::move(file)),
        adapted_(std::move(tensors)),
        metadata_(std::move(metadata)) {
    for (const AdaptedTensor& tensor : adapted_) {
      tensors_.push_back(tensor.info);
    }
  }

  std::string_view format() const override { return format_; }
  const std::string& path() const override { return file_->path(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::map<std::string, std::string> metadata() const override { return metadata_; }

  bool is_quantized(size_t index) const override {
    return traits(adapted_[index].stored).block > 1;
  }

  Status read(size_t index, std::vector<std::byte>& out) const override {
    out.resize(static_cast<size_t>(tensors_[index].n_bytes()));
    if (adapted_[index].undo == Undo::Transpose) {
      return read_transposed(adapted_[index], out);
    }
    return read_range(index, 0, out);
  }

  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override {
    const AdaptedTensor& tensor = adapted_[index];
    const uint64_t size = tensors_[index].n_bytes();
    if (offset > size || out.size() > size - offset) {
      return failed("{}: tensor {}: internal error: expected {} bytes at offset {} of {}", path(),
                    tensor.info.name, out.size(), offset, size);
    }
    if (tensor.undo == Undo::Transpose) {
      return TensorSource::read_range(index, offset, out);
    }
    if (tensor.undo == Undo::Nothing) {
      return file_->read_at(tensor.offset + offset, out).in("tensor " + tensor.info.name);
    }
    return read_changed(tensor, offset, out);
  }

 private:
  // Elements [first, first + values.size()) as stored; both are multiples of the stored block.
  Status read_stored(const AdaptedTensor& tensor, uint64_t first, std::span<float> values) const {
    const DTypeTraits& type = traits(tensor.stored);
    std::vector<std::byte> bytes(values.size() / type.block * type.block_bytes);
    const uint64_t offset = tensor.offset + first / type.block * type.block_bytes;
    RWKV_TRY(file_->read_at(offset, bytes).in("tensor " + tensor.info.name));
    decode_to_f32(tensor.stored, bytes, values);
    return {};
  }

  // Part of an element-wise changed tensor, which is presented as F32.
  Status read_changed(const AdaptedTensor& tensor, uint64_t offset,
                      std::span<std::byte> out) const {
    const uint64_t block = traits(tensor.stored).block;
    const uint64_t first = offset / sizeof(float) / block * block;
    const uint64_t elements = (offset + out.size() + sizeof(float) - 1) / sizeof(float) - first;
    std::vector<float> values(static_cast<size_t>((elements + block - 1) / block * block));
    RWKV_TRY(read_stored(tensor, first, values));
    for (size_t i = 0; i < values.size(); ++i) {
      const float x = values[i];
      values[i] = undone(tensor.undo, tensor.factor, x);
      const char* expected = expected_range(tensor.undo);
      if (expected && std::isnan(values[i])) {
        return damaged("{}: tensor {}: element {} is {}, expected {}", path(), tensor.info.name,
                       first + i, x, expected);
      }
    }
    const auto* bytes = reinterpret_cast<const std::byte*>(values.data());
    std::copy_n(bytes + (offset - first * sizeof(float)), out.size(), out.begin());
    return {};
  }

  // A tensor presented as [..., rows, columns] is stored as [..., columns, rows].
  Status read_transposed(const AdaptedTensor& tensor, std::span<std::byte> out) const {
    const std::vector<uint64_t>& shape = tensor.info.shape;
    const auto rows = static_cast<size_t>(shape[shape.size() - 2]);
    const auto columns = static_cast<size_t>(shape.back());
    std::vector<float> stored(static_cast<size_t>(tensor.info.n_elements()));
    RWKV_TRY(read_stored(tensor, 0, stored));
    std::byte* to = out.data();
    for (size_t matrix = 0; matrix < stored.size(); matrix += rows * columns) {
      for (size_t row = 0; row < rows; ++row) {
        for (size_t column = 0; column < columns; ++column, to += sizeof(float)) {
          store_le<float>(to, stored[matrix + column * rows + row]);
        }
      }
    }
    return {};
  }

  std::string_view format_;
  std::shared_ptr<InputFile> file_;
  std::vector<AdaptedTensor> adapted_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

Status check_tensor(const AdaptedTensor& tensor, uint64_t file_size) {
  if (tensor.undo == Undo::Transpose && tensor.info.shape.size() < 2) {
    return damaged("tensor {}: expected a matrix, found shape {}", tensor.info.name,
                   shape_to_string(tensor.info.shape));
  }
  TensorInfo stored = stored_info(tensor);
  if (tensor.undo == Undo::Transpose) {
    std::swap(stored.shape[stored.shape.size() - 2], stored.shape.back());
  }
  RWKV_TRY(check_tensor_size(stored));
  RWKV_TRY(check_tensor_size(tensor.info));
  if (tensor.offset > file_size || stored.n_bytes() > file_size - tensor.offset) {
    return bad_input(
        "tensor {}: needs {} bytes at offset {}, the file has {}; the file was cut, fetch it again",
        tensor.info.name, stored.n_bytes(), tensor.offset, file_size);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_adapted(std::string_view format,
                                                   std::shared_ptr<InputFile> file,
                                                   std::vector<AdaptedTensor> tensors,
                                                   std::map<std::string, std::string> metadata) {
  std::unordered_set<std::string_view> names;
  for (AdaptedTensor& tensor : tensors) {
    tensor.info.dtype = tensor.undo == Undo::Nothing ? tensor.stored : DType::F32;
    RWKV_TRY(check_tensor(tensor, file->size()).in(file->path()));
    if (!names.insert(tensor.info.name).second) {
      return damaged("{}: tensor {} at byte {} occurs twice", file->path(), tensor.info.name,
                     tensor.offset);
    }
  }
  return std::unique_ptr<TensorSource>(std::make_unique<AdaptedSource>(
      format, std::move(file), std::move(tensors), std::move(metadata)));
}

}  // namespace rwkv
