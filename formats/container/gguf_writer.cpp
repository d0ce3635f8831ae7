#include "formats/container/gguf_writer.h"

#include "formats/base/little_endian.h"

namespace rwkv {
namespace {

// Appends little-endian values to a growing header.
class HeaderBuilder {
 public:
  template <typename T>
  void number(T value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(T));
    store_le(bytes_.data() + at, value);
  }
  void text(std::string_view text) {
    number<uint64_t>(text.size());
    const auto* from = reinterpret_cast<const std::byte*>(text.data());
    bytes_.insert(bytes_.end(), from, from + text.size());
  }
  template <typename Wide>
  void scalar(GgufType type, Wide value);
  void value(const GgufValue& value);

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

template <typename Wide>
void HeaderBuilder::scalar(GgufType type, Wide value) {
  switch (type) {
    case GgufType::U8:
    case GgufType::Bool:
      return number(static_cast<uint8_t>(value));
    case GgufType::I8:
      return number(static_cast<int8_t>(value));
    case GgufType::U16:
      return number(static_cast<uint16_t>(value));
    case GgufType::I16:
      return number(static_cast<int16_t>(value));
    case GgufType::U32:
      return number(static_cast<uint32_t>(value));
    case GgufType::I32:
      return number(static_cast<int32_t>(value));
    case GgufType::F32:
      return number(static_cast<float>(value));
    case GgufType::U64:
      return number(static_cast<uint64_t>(value));
    case GgufType::I64:
      return number(static_cast<int64_t>(value));
    case GgufType::F64:
      return number(static_cast<double>(value));
    case GgufType::String:
    case GgufType::Array:
      return;
  }
}

void HeaderBuilder::value(const GgufValue& value) {
  number(static_cast<uint32_t>(value.type));
  if (value.type == GgufType::Array) {
    number(static_cast<uint32_t>(value.element));
  }
  std::visit(
      [&]<typename T>(const T& v) {
        if constexpr (std::is_same_v<T, std::string>) {
          text(v);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          number<uint64_t>(v.size());
          for (const std::string& s : v) {
            text(s);
          }
        } else if constexpr (std::is_arithmetic_v<T>) {
          scalar(value.type, v);
        } else {
          number<uint64_t>(v.size());
          for (const auto element : v) {
            scalar(value.element, element);
          }
        }
      },
      value.value);
}

struct Header {
  std::vector<std::byte> bytes;
  uint64_t alignment = 32;
  uint64_t checksums_at = 0;
  uint64_t data_bytes = 0;  ///< of the tensors, with their alignment
};

Result<Header> header_of(GgufMetadata metadata, std::span<const GgufTensorPlan> tensors) {
  Header result;
  if (metadata.contains("general.alignment")) {
    RWKV_ASSIGN(result.alignment, metadata.get_u64("general.alignment"));
  }
  metadata.set(kTensorXxh64Key, GgufValue::u64s(std::vector<uint64_t>(tensors.size(), 0)));
  HeaderBuilder header;
  for (const char c : {'G', 'G', 'U', 'F'}) {
    header.number(c);
  }
  header.number<uint32_t>(3);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(metadata.entries().size());
  for (const auto& [key, value] : metadata.entries()) {
    header.text(key);
    header.value(value);
    if (key == kTensorXxh64Key) {
      result.checksums_at = header.bytes().size() - tensors.size() * sizeof(uint64_t);
    }
  }
  for (const GgufTensorPlan& tensor : tensors) {
    header.text(tensor.name);
    header.number(static_cast<uint32_t>(tensor.dims.size()));
    for (const uint64_t dim : tensor.dims) {
      header.number(dim);
    }
    header.number(static_cast<uint32_t>(tensor.type));
    header.number(result.data_bytes);
    result.data_bytes = align_up(result.data_bytes + tensor.n_bytes, result.alignment);
  }
  result.bytes = header.bytes();
  return result;
}

}  // namespace

Result<uint64_t> GgufWriter::file_bytes(GgufMetadata metadata,
                                        std::span<const GgufTensorPlan> tensors,
                                        uint64_t more_metadata) {
  RWKV_ASSIGN(const Header header, header_of(std::move(metadata), tensors));
  return align_up(header.bytes.size() + more_metadata, header.alignment) + header.data_bytes;
}

uint64_t GgufWriter::metadata_bytes(const GgufMetadata& metadata) {
  HeaderBuilder header;
  for (const auto& [key, value] : metadata.entries()) {
    header.text(key);
    header.value(value);
  }
  return header.bytes().size();
}

Result<std::unique_ptr<GgufWriter>> GgufWriter::create(const std::string& path,
                                                       OutputFile::Existing existing,
                                                       GgufMetadata metadata,
                                                       std::vector<GgufTensorPlan> tensors) {
  auto writer = std::unique_ptr<GgufWriter>(new GgufWriter);
  RWKV_ASSIGN(const Header header, header_of(std::move(metadata), tensors));
  writer->alignment_ = header.alignment;
  writer->checksums_at_ = header.checksums_at;
  RWKV_ASSIGN(writer->file_, OutputFile::create(path, existing));
  RWKV_TRY(writer->file_->write(header.bytes));
  writer->tensors_ = std::move(tensors);
  RWKV_TRY(writer->begin_tensor());
  return writer;
}

Status GgufWriter::begin_tensor() {
  hash_ = std::make_unique<StreamingXxh64>();
  current_bytes_ = 0;
  return file_->pad_to(align_up(file_->position(), alignment_));
}

Status GgufWriter::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (current_ == tensors_.size()) {
      return failed("{}: internal error: more data than tensors announced", file_->path());
    }
    const uint64_t wanted = tensors_[current_].n_bytes - current_bytes_;
    const auto part = bytes.first(static_cast<size_t>(std::min<uint64_t>(wanted, bytes.size())));
    RWKV_TRY(file_->write(part));
    hash_->update(part);
    current_bytes_ += part.size();
    bytes = bytes.subspan(part.size());
    if (current_bytes_ == tensors_[current_].n_bytes) {
      checksums_.push_back(hash_->digest());
      ++current_;
      RWKV_TRY(begin_tensor());
    }
  }
  return {};
}

Status GgufWriter::finish() {
  if (current_ != tensors_.size()) {
    return failed("{}: internal error: tensor '{}' has {} of {} bytes", file_->path(),
                  tensors_[current_].name, current_bytes_, tensors_[current_].n_bytes);
  }
  std::vector<std::byte> checksums(checksums_.size() * sizeof(uint64_t));
  for (size_t i = 0; i < checksums_.size(); ++i) {
    store_le(checksums.data() + i * sizeof(uint64_t), checksums_[i]);
  }
  RWKV_TRY(file_->write_at(checksums_at_, checksums));
  return file_->commit();
}

}  // namespace rwkv
