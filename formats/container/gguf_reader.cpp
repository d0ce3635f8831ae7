#include "formats/container/gguf_reader.h"

#include "formats/base/damaged.h"
#include "formats/container/file_kind.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

namespace rwkv {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kMaxKeyBytes = 65535;  // the limit of the format
constexpr uint64_t kMaxNameBytes = 256;   // ggml allows 64, other writers more
constexpr uint32_t kMaxDims = 4;          // the limit of the format
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr uint64_t kMinEntryBytes = 8 + 4 + 1;  // a key's length, type and a one-byte value
constexpr uint64_t kMinTensorBytes = 8 + 4 + 8 + 4 + 8;
// An entry takes up to 15 times its bytes in memory, an element of an array up to 8 times. These
// are far above what models have (some 100 keys, 2,000 tensors, 300,000 tokens).
constexpr uint64_t kMaxEntries = 1 << 13;
constexpr uint64_t kMaxTensors = 1 << 16;
constexpr uint64_t kMaxElements = 1 << 22;  // of all arrays
constexpr uint64_t kFirstRead = uint64_t{256} << 10;
constexpr uint64_t kMaxHeader = uint64_t{1} << 30;

struct TypeRow {
  GgmlType ggml;
  DType dtype;
};
constexpr TypeRow kTypes[] = {
    {GgmlType::F32, DType::F32},       {GgmlType::F16, DType::F16},
    {GgmlType::Q4_0, DType::Q4_0},     {GgmlType::Q4_1, DType::Q4_1},
    {GgmlType::Q5_0, DType::Q5_0},     {GgmlType::Q5_1, DType::Q5_1},
    {GgmlType::Q8_0, DType::Q8_0},     {GgmlType::I8, DType::I8},
    {GgmlType::I16, DType::I16},       {GgmlType::I32, DType::I32},
    {GgmlType::I64, DType::I64},       {GgmlType::F64, DType::F64},
    {GgmlType::BF16, DType::BF16},     {GgmlType::Q2_K, DType::Q2_K},
    {GgmlType::Q3_K, DType::Q3_K},     {GgmlType::Q4_K, DType::Q4_K},
    {GgmlType::Q5_K, DType::Q5_K},     {GgmlType::Q6_K, DType::Q6_K},
    {GgmlType::IQ4_NL, DType::IQ4_NL}, {GgmlType::IQ4_XS, DType::IQ4_XS},
};

// Types that ggml has and this reader does not decode, for the message that refuses them.
struct RefusedType {
  uint32_t number;
  const char* name;
};
constexpr RefusedType kRefusedTypes[] = {
    {4, "Q4_2"},    {5, "Q4_3"},      {9, "Q8_1"},      {15, "Q8_K"},     {16, "IQ2_XXS"},
    {17, "IQ2_XS"}, {18, "IQ3_XXS"},  {19, "IQ1_S"},    {21, "IQ3_S"},    {22, "IQ2_S"},
    {29, "IQ1_M"},  {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {34, "TQ1_0"},
    {35, "TQ2_0"},  {39, "MXFP4"},    {40, "NVFP4"},    {41, "Q1_0"},     {42, "Q2_0"},
};

std::string type_text(uint32_t number) {
  for (const RefusedType& row : kRefusedTypes) {
    if (row.number == number) {
      return fmt::format("{} ({})", number, row.name);
    }
  }
  return std::to_string(number);
}

Result<std::string> read_string(ByteReader& in, uint64_t max_bytes, std::string_view what) {
  RWKV_ASSIGN(const uint64_t length, in.number<uint64_t>(what));
  if (length > max_bytes) {
    return damaged("{}: {} at offset {} claims {} bytes, at most {} are accepted", in.origin(),
                   what, in.offset() - 8, length, max_bytes);
  }
  RWKV_ASSIGN(const std::string_view text, in.text(length, what));
  return std::string(text);
}

template <typename Disk, typename Wide>
Result<Wide> read_number(ByteReader& in, std::string_view what) {
  RWKV_ASSIGN(const Disk value, in.number<Disk>(what));
  return static_cast<Wide>(value);
}

template <typename Disk, typename Wide>
Result<GgufValue::Storage> read_numbers(ByteReader& in, uint64_t count, std::string_view what) {
  if (count > in.left() / sizeof(Disk)) {
    return damaged("{}: the array '{}' claims {} elements, {} bytes are left", in.origin(), what,
                   count, in.left());
  }
  std::vector<Wide> values(static_cast<size_t>(count));
  for (Wide& value : values) {
    RWKV_ASSIGN(value, (read_number<Disk, Wide>(in, what)));
  }
  return GgufValue::Storage(std::move(values));
}

Result<GgufValue::Storage> read_strings(ByteReader& in, uint64_t count, std::string_view what) {
  if (count > in.left() / 8) {
    return damaged("{}: the array '{}' claims {} strings, {} bytes are left", in.origin(), what,
                   count, in.left());
  }
  std::vector<std::string> values(static_cast<size_t>(count));
  for (std::string& value : values) {
    RWKV_ASSIGN(value, read_string(in, in.left(), what));
  }
  return GgufValue::Storage(std::move(values));
}

Result<GgufType> read_type(ByteReader& in, std::string_view key) {
  RWKV_ASSIGN(const uint32_t type, in.number<uint32_t>("a value type"));
  if (type >= kGgufTypeCount) {
    return damaged("{}: metadata key '{}' has the unknown value type {}", in.origin(), key, type);
  }
  return static_cast<GgufType>(type);
}

Result<GgufValue::Storage> read_array(ByteReader& in, GgufType element, std::string_view key,
                                      uint64_t& elements_left) {
  RWKV_ASSIGN(const uint64_t n, in.number<uint64_t>("an array length"));
  if (n > elements_left) {
    return damaged("{}: the array '{}' has {} elements, all arrays may have {} in all", in.origin(),
                   key, n, kMaxElements);
  }
  elements_left -= n;
  switch (element) {
    case GgufType::U8:
    case GgufType::Bool:
      return read_numbers<uint8_t, uint64_t>(in, n, key);
    case GgufType::I8:
      return read_numbers<int8_t, int64_t>(in, n, key);
    case GgufType::U16:
      return read_numbers<uint16_t, uint64_t>(in, n, key);
    case GgufType::I16:
      return read_numbers<int16_t, int64_t>(in, n, key);
    case GgufType::U32:
      return read_numbers<uint32_t, uint64_t>(in, n, key);
    case GgufType::I32:
      return read_numbers<int32_t, int64_t>(in, n, key);
    case GgufType::U64:
      return read_numbers<uint64_t, uint64_t>(in, n, key);
    case GgufType::I64:
      return read_numbers<int64_t, int64_t>(in, n, key);
    case GgufType::F32:
      return read_numbers<float, double>(in, n, key);
    case GgufType::F64:
      return read_numbers<double, double>(in, n, key);
    case GgufType::String:
      return read_strings(in, n, key);
    case GgufType::Array:
      break;
  }
  return bad_input(
      "{}: metadata key '{}' is an array of arrays, which is not supported; remove it "
      "(gguf-new-metadata), or take another file",
      in.origin(), key);
}

template <typename Disk, typename Wide>
Result<GgufValue::Storage> read_scalar(ByteReader& in, std::string_view key) {
  RWKV_ASSIGN(const Wide value, (read_number<Disk, Wide>(in, key)));
  return GgufValue::Storage(value);
}

Result<GgufValue::Storage> read_storage(ByteReader& in, GgufValue& value, std::string_view key,
                                        uint64_t& elements_left) {
  switch (value.type) {
    case GgufType::U8:
      return read_scalar<uint8_t, uint64_t>(in, key);
    case GgufType::I8:
      return read_scalar<int8_t, int64_t>(in, key);
    case GgufType::U16:
      return read_scalar<uint16_t, uint64_t>(in, key);
    case GgufType::I16:
      return read_scalar<int16_t, int64_t>(in, key);
    case GgufType::U32:
      return read_scalar<uint32_t, uint64_t>(in, key);
    case GgufType::I32:
      return read_scalar<int32_t, int64_t>(in, key);
    case GgufType::U64:
      return read_scalar<uint64_t, uint64_t>(in, key);
    case GgufType::I64:
      return read_scalar<int64_t, int64_t>(in, key);
    case GgufType::F32:
      return read_scalar<float, double>(in, key);
    case GgufType::F64:
      return read_scalar<double, double>(in, key);
    case GgufType::Bool:
      return read_scalar<uint8_t, bool>(in, key);
    case GgufType::String: {
      RWKV_ASSIGN(std::string text, read_string(in, in.left(), key));
      return GgufValue::Storage(std::move(text));
    }
    case GgufType::Array: {
      RWKV_ASSIGN(value.element, read_type(in, key));
      return read_array(in, value.element, key, elements_left);
    }
  }
  return damaged("{}: metadata key '{}' has an unknown type", in.origin(), key);
}

Status read_metadata(ByteReader& in, uint64_t count, GgufMetadata& metadata) {
  std::unordered_set<std::string> seen;
  uint64_t elements_left = kMaxElements;
  for (uint64_t i = 0; i < count; ++i) {
    RWKV_ASSIGN(std::string key, read_string(in, kMaxKeyBytes, "a metadata key"));
    if (!seen.insert(key).second) {
      return damaged("{}: metadata key '{}' occurs twice", in.origin(), key);
    }
    GgufValue value;
    RWKV_ASSIGN(value.type, read_type(in, key));
    RWKV_ASSIGN(value.value, read_storage(in, value, key, elements_left));
    metadata.append_unchecked(std::move(key), std::move(value));
  }
  return {};
}

Result<GgufTensor> read_tensor_info(ByteReader& in) {
  GgufTensor tensor;
  RWKV_ASSIGN(tensor.name, read_string(in, kMaxNameBytes, "a tensor name"));
  RWKV_ASSIGN(const uint32_t n_dims, in.number<uint32_t>("a number of dimensions"));
  if (n_dims > kMaxDims) {
    return damaged("{}: tensor '{}' has {} dimensions, at most {} are possible", in.origin(),
                   tensor.name, n_dims, kMaxDims);
  }
  tensor.dims.resize(n_dims);
  for (uint64_t& dim : tensor.dims) {
    RWKV_ASSIGN(dim, in.number<uint64_t>("a dimension"));
  }
  RWKV_ASSIGN(const uint32_t type, in.number<uint32_t>("a tensor type"));
  const auto* row = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeRow& r) {
    return static_cast<uint32_t>(r.ggml) == type;
  });
  if (row == std::end(kTypes)) {
    return bad_input(
        "{}: tensor '{}' has ggml type {}, which is not supported; expected F32, F16, BF16, Q4_0, "
        "Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS or integers; take a file in one of "
        "these, best F16",
        in.origin(), tensor.name, type_text(type));
  }
  tensor.dtype = row->dtype;
  RWKV_ASSIGN(tensor.offset, in.number<uint64_t>("a tensor offset"));
  const TensorInfo info = tensor.info();
  RWKV_TRY(check_tensor_size(info).in(in.origin()));
  tensor.n_bytes = info.n_bytes();
  return tensor;
}

Status check_overlaps(const std::vector<GgufTensor>& tensors, const std::string& origin) {
  std::vector<const GgufTensor*> sorted;
  for (const GgufTensor& tensor : tensors) {
    sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i - 1]->offset + sorted[i - 1]->n_bytes > sorted[i]->offset) {
      return damaged("{}: tensors '{}' and '{}' overlap", origin, sorted[i - 1]->name,
                     sorted[i]->name);
    }
  }
  return {};
}

Result<uint64_t> read_alignment(const GgufMetadata& metadata) {
  if (!metadata.contains("general.alignment")) {
    return uint64_t{32};
  }
  RWKV_ASSIGN(const uint64_t alignment, metadata.get_u64("general.alignment"));
  if (alignment == 0 || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
    return damaged("general.alignment is {}; expected a power of two up to {}", alignment,
                   kMaxAlignment);
  }
  return alignment;
}

// Offsets become absolute and are checked against the end of the file.
Status place_tensors(std::vector<GgufTensor>& tensors, uint64_t data_begin, uint64_t file_size,
                     uint64_t alignment, const std::string& origin) {
  for (GgufTensor& tensor : tensors) {
    if (tensor.offset % alignment != 0) {
      return damaged("{}: tensor '{}' starts at {}, which is not a multiple of {}", origin,
                     tensor.name, tensor.offset, alignment);
    }
    uint64_t end = 0;
    if (!checked_add(tensor.offset, data_begin, tensor.offset) ||
        !checked_add(tensor.offset, tensor.n_bytes, end) || end > file_size) {
      return bad_input(
          "{}: tensor '{}' ({} bytes) ends after the end of the file ({} bytes); the file was cut, "
          "fetch it again",
          origin, tensor.name, tensor.n_bytes, file_size);
    }
  }
  return check_overlaps(tensors, origin);
}

Status not_gguf(std::span<const std::byte> bytes, const std::string& origin) {
  const FileKind kind = file_kind(bytes);
  const char* advice = kind.is_checkpoint
                           ? "convert it first: rwkv-press convert CHECKPOINT -o MODEL.gguf"
                           : "name a model; rwkv-press convert CHECKPOINT -o MODEL.gguf makes one";
  return bad_input("{}: expected a packed model (a GGUF file), found {}; {}", origin, kind.found,
                   kind.advice.empty() ? advice : kind.advice.c_str());
}

struct Counts {
  uint64_t tensors;
  uint64_t entries;
};

Result<Counts> read_counts(ByteReader& in) {
  RWKV_TRY(in.text(kMagic.size(), "the magic").status());
  RWKV_ASSIGN(const uint32_t version, in.number<uint32_t>("the version"));
  if (version != 2 && version != 3) {
    return bad_input("{}: GGUF version {}, expected 2 or 3; convert the original checkpoint again",
                     in.origin(), version);
  }
  Counts counts{};
  RWKV_ASSIGN(counts.tensors, in.number<uint64_t>("the tensor count"));
  RWKV_ASSIGN(counts.entries, in.number<uint64_t>("the metadata count"));
  if (counts.tensors > in.left() / kMinTensorBytes || counts.entries > in.left() / kMinEntryBytes) {
    return damaged("{}: claims {} tensors and {} metadata entries in {} bytes", in.origin(),
                   counts.tensors, counts.entries, in.left());
  }
  if (counts.tensors > kMaxTensors || counts.entries > kMaxEntries) {
    return damaged("{}: has {} tensors and {} metadata entries, at most {} and {} are accepted",
                   in.origin(), counts.tensors, counts.entries, kMaxTensors, kMaxEntries);
  }
  return counts;
}

}  // namespace

TensorInfo GgufTensor::info() const {
  return {name, dtype, std::vector<uint64_t>(dims.rbegin(), dims.rend())};
}

bool looks_like_gguf(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagic.size() &&
         std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0;
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, const std::string& origin) {
  if (!looks_like_gguf(bytes)) {
    return not_gguf(bytes, origin);
  }
  ByteReader in(bytes, origin);
  return parse(in, origin);
}

// How long the header is shows only while it is parsed.
Result<GgufFile> GgufFile::read(const InputFile& file) {
  std::vector<std::byte> head;
  for (uint64_t n = std::min(file.size(), kFirstRead);; n = std::min(file.size(), 2 * n)) {
    head = {};
    head.resize(static_cast<size_t>(n));
    RWKV_TRY(file.read_at(0, head));
    if (!looks_like_gguf(head)) {
      return not_gguf(head, file.path());
    }
    ByteReader in(head, file.size(), file.path());
    Result<GgufFile> parsed = parse(in, file.path());
    if (!in.needs_more()) {
      return parsed;
    }
    if (2 * n > kMaxHeader) {
      return damaged("{}: its header has more than {} bytes", file.path(), n);
    }
  }
}

Result<GgufFile> GgufFile::parse(ByteReader& in, const std::string& origin) {
  const uint64_t n_bytes = in.left();
  RWKV_ASSIGN(const Counts counts, read_counts(in));
  GgufFile file;
  file.origin_ = origin;
  RWKV_TRY(read_metadata(in, counts.entries, file.metadata_));
  for (uint64_t i = 0; i < counts.tensors; ++i) {
    RWKV_ASSIGN(GgufTensor tensor, read_tensor_info(in));
    if (!file.by_name_.emplace(tensor.name, file.tensors_.size()).second) {
      return damaged("{}: tensor '{}' occurs twice", origin, tensor.name);
    }
    file.tensors_.push_back(std::move(tensor));
  }
  auto alignment = read_alignment(file.metadata_);
  if (!alignment.ok()) {
    return alignment.status().in(origin);
  }
  file.alignment_ = alignment.value();
  RWKV_TRY(place_tensors(file.tensors_, align_up(in.offset(), file.alignment_), n_bytes,
                         file.alignment_, origin));
  return file;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace rwkv
