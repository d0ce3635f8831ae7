#include "compressor/low_rank/spectrum_store.h"

#include <fmt/format.h>

#include <span>

#include "compressor/numerics/tensor_ops.h"
#include "formats/base/checksum.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

// The file: vectors, values, and the XXH64 of both.
std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {reinterpret_cast<const std::byte*>(tensor.data_ptr<float>()), tensor.nbytes()};
}

std::span<std::byte> room_in(const at::Tensor& tensor) {
  return {reinterpret_cast<std::byte*>(tensor.data_ptr<float>()), tensor.nbytes()};
}

uint64_t checksum_of(const Spectrum& spectrum) {
  StreamingXxh64 hash;
  hash.update(bytes_of(spectrum.vectors));
  hash.update(bytes_of(spectrum.values));
  return hash.digest();
}

Status write(const std::string& path, const Spectrum& spectrum) {
  RWKV_ASSIGN(const auto file, OutputFile::create(path, OutputFile::Existing::Replace));
  RWKV_TRY(file->write(bytes_of(spectrum.vectors)));
  RWKV_TRY(file->write(bytes_of(spectrum.values)));
  const uint64_t checksum = checksum_of(spectrum);
  RWKV_TRY(file->write(std::as_bytes(std::span(&checksum, 1))));
  return file->commit();
}

Result<Spectrum> read(const std::string& path, int64_t n) {
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  Spectrum spectrum{at::empty({n, n}, at::kFloat), at::empty({n}, at::kFloat)};
  uint64_t checksum = 0;
  const uint64_t values_at = spectrum.vectors.nbytes();
  RWKV_TRY(file->read_at(0, room_in(spectrum.vectors)));
  RWKV_TRY(file->read_at(values_at, room_in(spectrum.values)));
  RWKV_TRY(file->read_at(values_at + spectrum.values.nbytes(),
                         std::as_writable_bytes(std::span(&checksum, 1))));
  if (checksum != checksum_of(spectrum)) {
    return bad_input("{}: is damaged", path);
  }
  return spectrum;
}

}  // namespace

std::string SpectrumStore::path_of(const at::Tensor& g) const {
  return fmt::format("{}/spectrum-{}-{:016x}", folder_, g.size(0), xxh64(bytes_of(g)));
}

std::optional<Spectrum> SpectrumStore::find(const at::Tensor& g) const {
  if (folder_.empty()) {
    return std::nullopt;
  }
  auto spectrum = read(path_of(g.contiguous()), g.size(0));
  return spectrum.ok() ? std::optional(spectrum.take()) : std::nullopt;
}

void SpectrumStore::keep(const at::Tensor& g, const Spectrum& spectrum) const {
  if (!folder_.empty()) {
    // The next fit computes it again if this did not work.
    static_cast<void>(write(path_of(g.contiguous()), spectrum).ok());
  }
}

}  // namespace rwkv::press
