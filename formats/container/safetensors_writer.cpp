#include "formats/container/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "formats/base/little_endian.h"
#include "formats/container/safetensors_header.h"

namespace rwkv {
namespace {

constexpr size_t kMaxName = 512;  // what our reader accepts
constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignment = 8;  // of the start of the data, as the format requires

Status check_name(const std::string& name) {
  const bool printable =
      std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (name.empty() || name.size() > kMaxName || !printable || name == "__metadata__") {
    return usage_error(
        "a tensor name of {} bytes cannot be stored in a safetensors file; expected 1 to {} "
        "printable "
        "ASCII characters other than __metadata__",
        name.size(), kMaxName);
  }
  return {};
}

Result<std::string> type_name(const TensorInfo& info) {
  for (const SafetensorsType& type : safetensors_types()) {
    if (type.dtype == info.dtype) {
      return std::string(type.name);
    }
  }
  return usage_error(
      "tensor {}: {} cannot be stored in a safetensors file, only {}; decode it first", info.name,
      traits(info.dtype).name, safetensors_type_names());
}

std::string quoted(const std::string& name) {
  std::string text = "\"";
  for (const char c : name) {
    if (c == '"' || c == '\\') {
      text += '\\';
    }
    text += c;
  }
  return text + '"';
}

}  // namespace

Result<std::string> safetensors_header(std::span<const TensorInfo> tensors) {
  std::unordered_set<std::string> names;
  std::string text = "{";
  uint64_t offset = 0;
  for (const TensorInfo& info : tensors) {
    RWKV_TRY(check_name(info.name));
    RWKV_TRY(check_tensor_size(info));
    RWKV_ASSIGN(const std::string type, type_name(info));
    if (!names.insert(info.name).second) {
      return usage_error("tensor {}: is given twice", info.name);
    }
    uint64_t end = 0;
    if (!checked_add(offset, info.n_bytes(), end)) {
      return usage_error("tensor {}: the data would exceed 64 bits", info.name);
    }
    text += fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[", offset ? "," : "", quoted(info.name),
                        type);
    for (size_t i = 0; i < info.shape.size(); ++i) {
      text += fmt::format("{}{}", i ? "," : "", info.shape[i]);
    }
    text += fmt::format("],\"data_offsets\":[{},{}]}}", offset, end);
    offset = end;
  }
  text += '}';
  text.resize(static_cast<size_t>(align_up(text.size(), kAlignment)), ' ');
  std::array<std::byte, kLengthBytes> length{};
  store_le<uint64_t>(length.data(), text.size());
  return std::string(reinterpret_cast<const char*>(length.data()), length.size()) + text;
}

Status write_safetensors(
    const std::string& path, OutputFile::Existing existing, std::span<const TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor) {
  const Result<std::string> header = safetensors_header(tensors);
  RWKV_TRY(header.status().in(path));
  RWKV_ASSIGN(const std::unique_ptr<OutputFile> file, OutputFile::create(path, existing));
  RWKV_TRY(file->write(std::as_bytes(std::span(header.value()))));
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < tensors.size(); ++i) {
    RWKV_TRY(read_tensor(i, bytes));
    if (bytes.size() != tensors[i].n_bytes()) {
      return failed("{}: tensor {}: internal error: {} bytes given, {} announced", path,
                    tensors[i].name, bytes.size(), tensors[i].n_bytes());
    }
    RWKV_TRY(file->write(bytes));
  }
  return file->commit();
}

}  // namespace rwkv
