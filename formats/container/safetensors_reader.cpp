#include "formats/container/safetensors_reader.h"

#include <algorithm>
#include <array>

#include "formats/base/damaged.h"
#include "formats/base/file.h"
#include "formats/base/little_endian.h"
#include "formats/container/safetensors_header.h"

namespace rwkv {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

class SafetensorsSource final : public TensorSource {
 public:
  SafetensorsSource(std::shared_ptr<InputFile> file, SafetensorsHeader header, uint64_t buffer)
      : file_(std::move(file)), metadata_(std::move(header.metadata)) {
    for (SafetensorsEntry& entry : header.entries) {
      offsets_.push_back(buffer + entry.begin);
      tensors_.push_back(std::move(entry.info));
    }
  }

  std::string_view format() const override { return "safetensors"; }
  const std::string& path() const override { return file_->path(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::map<std::string, std::string> metadata() const override { return metadata_; }

  Status read(size_t index, std::vector<std::byte>& out) const override {
    out.resize(static_cast<size_t>(tensors_[index].n_bytes()));
    return file_->read_at(offsets_[index], out).in("tensor " + tensors_[index].name);
  }

  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override {
    const uint64_t size = tensors_[index].n_bytes();
    if (offset > size || out.size() > size - offset) {
      return failed("{}: tensor {}: internal error: expected {} bytes at offset {} of {}", path(),
                    tensors_[index].name, out.size(), offset, size);
    }
    return file_->read_at(offsets_[index] + offset, out).in("tensor " + tensors_[index].name);
  }

 private:
  std::shared_ptr<InputFile> file_;
  std::map<std::string, std::string> metadata_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint64_t> offsets_;  // in the file, one per tensor
};

Result<std::string> read_header_text(const InputFile& file) {
  std::array<std::byte, kLengthBytes> length_bytes{};
  RWKV_TRY(file.read_at(0, length_bytes));
  const auto length = load_le<uint64_t>(length_bytes.data());
  if (length > kMaxHeader || length > file.size() - kLengthBytes) {
    return bad_input(
        "{}: expected a header of {} bytes (at most {}), found {} behind its length; the file was "
        "cut, fetch it again",
        file.path(), length, kMaxHeader, file.size() - kLengthBytes);
  }
  std::string text(static_cast<size_t>(length), '\0');
  RWKV_TRY(file.read_at(kLengthBytes, std::as_writable_bytes(std::span(text))));
  return text;
}

// `entries` are in the order of `begin`. The data must cover the buffer from end to end.
Status check_entries(std::span<const SafetensorsEntry> entries, uint64_t buffer_size) {
  if (!entries.empty() && entries.back().end > buffer_size) {
    return bad_input("expected {} bytes of data, found {}; the file was cut, fetch it again",
                     entries.back().end, buffer_size);
  }
  uint64_t covered = 0;
  for (const SafetensorsEntry& entry : entries) {
    RWKV_TRY(check_tensor_size(entry.info));
    if (entry.begin > entry.end || entry.end > buffer_size) {
      return damaged("tensor {}: data_offsets {} to {} are not within the {} bytes of data",
                     entry.info.name, entry.begin, entry.end, buffer_size);
    }
    const uint64_t expected = entry.info.n_bytes();
    if (entry.end - entry.begin != expected) {
      return damaged("tensor {}: {} of shape {} needs {} bytes, data_offsets hold {}",
                     entry.info.name, traits(entry.info.dtype).name,
                     shape_to_string(entry.info.shape), expected, entry.end - entry.begin);
    }
    if (entry.begin != covered) {
      return damaged("tensor {}: data begins at {}, {} expected: the data {}", entry.info.name,
                     entry.begin, covered, entry.begin < covered ? "overlaps" : "has a hole");
    }
    covered = entry.end;
  }
  if (covered != buffer_size) {
    return damaged("{} bytes of data after the last tensor", buffer_size - covered);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_safetensors(const std::string& path) {
  RWKV_ASSIGN(std::shared_ptr<InputFile> file, InputFile::open(path));
  RWKV_ASSIGN(const std::string text, read_header_text(*file));
  Result<SafetensorsHeader> parsed = parse_safetensors_header(text);
  RWKV_TRY(parsed.status().in(path));
  SafetensorsHeader header = parsed.take();
  std::sort(header.entries.begin(), header.entries.end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) { return a.begin < b.begin; });
  const uint64_t buffer = kLengthBytes + text.size();
  RWKV_TRY(check_entries(header.entries, file->size() - buffer).in(path));
  return std::unique_ptr<TensorSource>(
      std::make_unique<SafetensorsSource>(std::move(file), std::move(header), buffer));
}

}  // namespace rwkv
