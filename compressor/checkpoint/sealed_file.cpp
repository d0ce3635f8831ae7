#include "compressor/checkpoint/sealed_file.h"

#include <algorithm>
#include <array>

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/container/safetensors_reader.h"
#include "formats/container/safetensors_writer.h"

namespace rwkv::press {
namespace {

constexpr const char* kSeal = "file.xxh64";
constexpr size_t kSealBytes = sizeof(uint64_t);
constexpr uint64_t kPieceBytes = uint64_t{1} << 20;

Status check_seal(const InputFile& file) {
  if (file.size() < kSealBytes) {
    return bad_input("{}: expected a checksum at its end, found {} bytes; it was cut", file.path(),
                     file.size());
  }
  const uint64_t sealed = file.size() - kSealBytes;
  StreamingXxh64 hash;
  std::vector<std::byte> piece;
  for (uint64_t at = 0; at < sealed; at += piece.size()) {
    piece.resize(static_cast<size_t>(std::min(kPieceBytes, sealed - at)));
    RWKV_TRY(file.read_at(at, piece));
    hash.update(piece);
  }
  std::array<std::byte, kSealBytes> seal{};
  RWKV_TRY(file.read_at(sealed, seal));
  const auto expected = load_le<uint64_t>(seal.data());
  if (hash.digest() != expected) {
    return bad_input(
        "{}: expected the checksum {:016x}, found {:016x}; it is damaged, or was written by an "
        "earlier version or another program",
        file.path(), expected, hash.digest());
  }
  return {};
}

}  // namespace

Status write_sealed(
    const std::string& path, OutputFile::Existing existing, std::vector<TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor) {
  const size_t n = tensors.size();
  tensors.push_back({kSeal, DType::U8, {kSealBytes}});
  const Result<std::string> header = safetensors_header(tensors);
  RWKV_TRY(header.status().in(path));
  StreamingXxh64 hash;
  hash.update(std::as_bytes(std::span(header.value())));
  return write_safetensors(path, existing, tensors,
                           [&](size_t index, std::vector<std::byte>& out) -> Status {
                             if (index == n) {
                               out.resize(kSealBytes);
                               store_le<uint64_t>(out.data(), hash.digest());
                               return {};
                             }
                             RWKV_TRY(read_tensor(index, out));
                             hash.update(out);
                             return {};
                           });
}

Result<std::unique_ptr<TensorSource>> open_sealed(const std::string& path) {
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  RWKV_TRY(check_seal(*file));
  return open_safetensors(path);
}

}  // namespace rwkv::press
