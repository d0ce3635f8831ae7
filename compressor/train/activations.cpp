#include "compressor/train/activations.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "compressor/checkpoint/sealed_file.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/little_endian.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

constexpr const char* kEnergy = "energy";
constexpr const char* kSettings = "settings";
constexpr uint64_t kBytes = 2;  // of bf16
constexpr uint64_t kMaxSettings = uint64_t{1} << 20;

// All tensors of a file: the parts of each chunk, then what is said of all.
std::vector<TensorInfo> infos_of(const ActivationShape& shape, uint64_t n_settings) {
  std::vector<TensorInfo> infos;
  for (uint64_t chunk = 0; chunk < shape.n_chunks(); ++chunk) {
    for (const ActivationPart& part : shape.parts) {
      infos.push_back({fmt::format("{}.{:06}", part.name, chunk),
                       DType::BF16,
                       {shape.size_of_chunk(chunk), static_cast<uint64_t>(part.rows),
                        static_cast<uint64_t>(part.cols)}});
    }
  }
  infos.push_back({kEnergy, DType::F64, {1}});
  infos.push_back({kSettings, DType::U8, {n_settings}});
  return infos;
}

// Both hold sequences of `part`: bytes as in a file, and f32.
at::Tensor to_f32(std::vector<std::byte>& bytes, const ActivationPart& part) {
  const auto n = static_cast<int64_t>(bytes.size() / kBytes) / (part.rows * part.cols);
  return at::from_blob(bytes.data(), {n, part.rows, part.cols}, at::kBFloat16).to(at::kFloat);
}

void to_bf16(const at::Tensor& values, std::vector<std::byte>& bytes) {
  const at::Tensor narrow = values.to(at::kBFloat16).contiguous();
  bytes.resize(static_cast<size_t>(narrow.numel()) * kBytes);
  std::memcpy(bytes.data(), narrow.data_ptr(), bytes.size());
}

Status wrong_shape(const std::string& path) {
  return bad_input(
      "{}: expected the activations of this training, found other tensors; remove it, and they are "
      "computed again",
      path);
}

}  // namespace

Status write_activations(const std::string& path, const ActivationShape& shape,
                         const std::string& settings,
                         const std::function<Result<ActivationChunk>(uint64_t chunk)>& make,
                         const double& energy) {
  const size_t n_parts = shape.parts.size();
  ActivationChunk values;
  return write_sealed(path, OutputFile::Existing::Replace, infos_of(shape, settings.size()),
                      [&](size_t i, std::vector<std::byte>& out) -> Status {
                        const uint64_t chunk = i / n_parts;
                        if (chunk >= shape.n_chunks()) {
                          const bool is_energy = i == shape.n_chunks() * n_parts;
                          out.resize(is_energy ? sizeof(double) : settings.size());
                          std::memcpy(out.data(),
                                      is_energy ? static_cast<const void*>(&energy)
                                                : static_cast<const void*>(settings.data()),
                                      out.size());
                          return {};
                        }
                        if (i % n_parts == 0) {
                          RWKV_ASSIGN(values, make(chunk));
                        }
                        to_bf16(values[i % n_parts], out);
                        return {};
                      });
}

Result<ActivationFile> ActivationFile::open(const std::string& path, const ActivationShape& shape,
                                            const std::string& settings) {
  ActivationFile file;
  auto opened = open_sealed(path);
  if (!opened.ok()) {
    return opened.status().code() == Code::BadInput
               ? bad_input("{}; remove it, and the activations are computed again",
                           opened.status().message())
               : opened.status();
  }
  file.source_ = opened.take();
  file.shape_ = shape;
  const std::vector<TensorInfo> expected = infos_of(shape, settings.size());
  const std::vector<TensorInfo>& found = file.source_->tensors();
  if (found.size() < expected.size()) {
    return wrong_shape(path);
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const bool is_settings = i + 1 == expected.size();
    if (found[i].name != expected[i].name || found[i].dtype != expected[i].dtype ||
        (!is_settings && found[i].shape != expected[i].shape)) {
      return wrong_shape(path);
    }
  }
  std::vector<std::byte> bytes;
  RWKV_TRY(file.source_->read(expected.size() - 2, bytes));
  file.energy_ = load_le<double>(bytes.data());
  if (!std::isfinite(file.energy_) || file.energy_ < 0) {
    return wrong_shape(path);
  }
  if (found[expected.size() - 1].n_bytes() > kMaxSettings) {
    return wrong_shape(path);
  }
  RWKV_TRY(file.source_->read(expected.size() - 1, bytes));
  if (std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) != settings) {
    return usage_error(
        "{}: was written by a training with other settings; use the same ones, or remove the "
        "folder",
        path);
  }
  return file;
}

Result<at::Tensor> ActivationFile::chunk(size_t part, uint64_t chunk) const {
  std::vector<std::byte> bytes;
  RWKV_TRY(source_->read(static_cast<size_t>(chunk) * shape_.parts.size() + part, bytes));
  return to_f32(bytes, shape_.parts[part]);
}

Result<at::Tensor> ActivationFile::gather(size_t part, std::span<const uint64_t> sequences) const {
  const ActivationPart& what = shape_.parts[part];
  const auto size = static_cast<size_t>(what.rows * what.cols) * kBytes;
  std::vector<std::byte> bytes(size * sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    const uint64_t chunk = sequences[i] / shape_.per_chunk;
    RWKV_TRY(source_->read_range(static_cast<size_t>(chunk) * shape_.parts.size() + part,
                                 sequences[i] % shape_.per_chunk * size,
                                 std::span(bytes).subspan(i * size, size)));
  }
  return to_f32(bytes, what);
}

}  // namespace rwkv::press
