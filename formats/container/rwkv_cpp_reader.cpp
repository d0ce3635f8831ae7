#include "formats/container/rwkv_cpp_reader.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "formats/base/damaged.h"
#include "formats/base/file.h"
#include "formats/base/little_endian.h"
#include "formats/container/adapted_source.h"
#include "formats/container/rwkv_cpp_names.h"

namespace rwkv {
namespace {

constexpr int32_t kMagic = 0x67676d66;  // "ggmf"
constexpr int32_t kOldVersion = 100;    // its quantised blocks had another layout
constexpr int32_t kVersion = 101;
constexpr int32_t kMaxDims = 4;  // ggml's own limit
constexpr int32_t kMaxKey = 256;
constexpr size_t kMaxTensors =
    65536;  // far more than any model has; bounds memory for hostile files

struct TypeRow {
  int32_t id;
  DType dtype;
};
constexpr std::array kTypes = {
    TypeRow{0, DType::F32},  TypeRow{1, DType::F16},  TypeRow{2, DType::Q4_0},
    TypeRow{3, DType::Q4_1}, TypeRow{7, DType::Q5_0}, TypeRow{8, DType::Q5_1},
    TypeRow{9, DType::Q8_0},
};

const TypeRow* find_type(int32_t id) {
  const auto* row = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](const TypeRow& candidate) { return candidate.id == id; });
  return row == kTypes.end() ? nullptr : row;
}

struct Header {
  int32_t version = 0;
  int32_t n_vocab = 0;
  int32_t n_embed = 0;
  int32_t n_layer = 0;
};

// Like read_at, but the message does not contain the name of the file, which the callers add.
Status read_part(const InputFile& file, uint64_t offset, std::span<std::byte> out) {
  if (out.size() > file.size() - offset) {
    return bad_input(
        "expected {} bytes at byte {}, but the file ends at {}; it is truncated, fetch it again",
        out.size(), offset, file.size());
  }
  return file.read_at(offset, out);
}

// Fills `out` with consecutive little-endian i32 from `offset`, which it advances.
Status read_i32s(const InputFile& file, uint64_t& offset, std::span<int32_t> out) {
  std::array<std::byte, 8 * sizeof(int32_t)> bytes{};
  const auto used = std::span(bytes).first(out.size_bytes());
  RWKV_TRY(read_part(file, offset, used));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = load_le<int32_t>(used.data() + i * sizeof(int32_t));
  }
  offset += used.size();
  return {};
}

Result<Header> read_header(const InputFile& file, uint64_t& offset) {
  std::array<int32_t, 6> fields{};
  RWKV_TRY(read_i32s(file, offset, fields));
  const auto [magic, version, n_vocab, n_embed, n_layer, type] = fields;
  if (magic != kMagic) {
    return bad_input(
        "begins with {:#010x}, expected {:#010x} of an rwkv.cpp file; name a file of rwkv.cpp",
        static_cast<uint32_t>(magic), static_cast<uint32_t>(kMagic));
  }
  if (version != kVersion && version != kOldVersion) {
    return bad_input(
        "rwkv.cpp file version {} at byte 4, {} or {} are readable; convert the original .pth",
        version, kOldVersion, kVersion);
  }
  if (n_vocab <= 0 || n_embed <= 0 || n_layer <= 0) {
    return damaged(
        "header at byte 8 has n_vocab {}, n_embed {}, n_layer {}, expected more than 0 of each",
        n_vocab, n_embed, n_layer);
  }
  if (!find_type(type)) {
    return damaged("header at byte 20 has the unknown data type {}", type);
  }
  return Header{version, n_vocab, n_embed, n_layer};
}

Result<DType> read_type(const Header& header, int32_t id) {
  const TypeRow* row = find_type(id);
  if (!row) {
    return bad_input(
        "unknown data type {}, expected F32, F16, Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0; quantise again "
        "with rwkv.cpp to one of these, or use the FP16 file",
        id);
  }
  if (header.version == kOldVersion && traits(row->dtype).block > 1) {
    return bad_input(
        "{} in a file of version {} has an old layout that is not supported; quantise again with "
        "a newer rwkv.cpp, or use the FP16 file",
        traits(row->dtype).name, kOldVersion);
  }
  return row->dtype;
}

Result<std::string> read_key(const InputFile& file, uint64_t& offset, int32_t length) {
  std::string key(static_cast<size_t>(length), '\0');
  RWKV_TRY(read_part(file, offset, std::as_writable_bytes(std::span(key))));
  if (!std::all_of(key.begin(), key.end(), [](char c) { return c > 0x20 && c < 0x7f; })) {
    return damaged("the name at byte {} is not printable ASCII", offset);
  }
  offset += key.size();
  return key;
}

// One entry at `offset`, which is moved to the end of its data.
Result<RwkvCppTensor> read_entry(const InputFile& file, const Header& header, uint64_t& offset) {
  std::array<int32_t, 3> fields{};
  RWKV_TRY(read_i32s(file, offset, fields));
  const auto [n_dims, key_length, type] = fields;
  if (n_dims < 1 || n_dims > kMaxDims || key_length < 1 || key_length > kMaxKey) {
    return damaged("{} dimensions and a name of {} bytes, 1 to {} and 1 to {} are accepted", n_dims,
                   key_length, kMaxDims, kMaxKey);
  }
  RwkvCppTensor tensor;
  RWKV_ASSIGN(tensor.dtype, read_type(header, type));
  std::array<int32_t, kMaxDims> dims{};
  const auto used = std::span(dims).first(static_cast<size_t>(n_dims));
  RWKV_TRY(read_i32s(file, offset, used));
  if (std::any_of(used.begin(), used.end(), [](int32_t dim) { return dim < 1; })) {
    return damaged("a dimension is zero or negative");
  }
  tensor.shape.assign(used.rbegin(), used.rend());  // the file has the innermost first
  RWKV_ASSIGN(tensor.name, read_key(file, offset, key_length));
  const TensorInfo info{tensor.name, tensor.dtype, tensor.shape};
  RWKV_TRY(check_tensor_size(info));
  if (info.n_bytes() > file.size() - offset) {
    return bad_input(
        "tensor {}: needs {} bytes at byte {}, {} are left; the file is truncated, fetch it again",
        info.name, info.n_bytes(), offset, file.size() - offset);
  }
  tensor.offset = offset;
  offset += info.n_bytes();
  return tensor;
}

Result<std::vector<RwkvCppTensor>> read_entries(const InputFile& file, const Header& header,
                                                uint64_t offset) {
  std::vector<RwkvCppTensor> tensors;
  std::unordered_set<std::string> names;
  while (offset < file.size()) {
    const std::string where = fmt::format("{}: entry at byte {}", file.path(), offset);
    if (tensors.size() == kMaxTensors) {
      return damaged("{}: more than {} tensors", where, kMaxTensors);
    }
    Result<RwkvCppTensor> tensor = read_entry(file, header, offset);
    RWKV_TRY(tensor.status().in(where));
    if (!names.insert(tensor.value().name).second) {
      return damaged("{}: tensor {} occurs twice", where, tensor.value().name);
    }
    tensors.push_back(tensor.take());
  }
  return tensors;
}

// The format has no count of its tensors, so a file that was cut between two of them shows only by
// missing tensors. These are the last ones of the groups that every RWKV version has.
Status check_complete(std::span<const RwkvCppTensor> tensors, const Header& header) {
  const auto find = [&](const std::string& name) {
    return std::find_if(tensors.begin(), tensors.end(),
                        [&](const RwkvCppTensor& tensor) { return tensor.name == name; });
  };
  const std::string last_block = fmt::format("blocks.{}.", header.n_layer - 1);
  for (const std::string& name : {std::string("emb.weight"), last_block + "ln1.weight",
                                  std::string("ln_out.weight"), std::string("head.weight")}) {
    if (find(name) == tensors.end()) {
      return bad_input(
          "tensor {} is missing from a model of {} layers; the file is truncated, fetch it again",
          name, header.n_layer);
    }
  }
  const auto emb = find("emb.weight");
  const std::vector<uint64_t> expected = {static_cast<uint64_t>(header.n_vocab),
                                          static_cast<uint64_t>(header.n_embed)};
  if (emb->shape != expected) {
    return damaged("tensor emb.weight at byte {}: has shape {}, but the header says {}",
                   emb->offset, shape_to_string(emb->shape), shape_to_string(expected));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_rwkv_cpp(const std::string& path) {
  RWKV_ASSIGN(std::shared_ptr<InputFile> file, InputFile::open(path));
  uint64_t offset = 0;
  const Result<Header> parsed = read_header(*file, offset);
  RWKV_TRY(parsed.status().in(path));
  const Header header = parsed.value();
  RWKV_ASSIGN(const std::vector<RwkvCppTensor> tensors, read_entries(*file, header, offset));
  RWKV_TRY(check_complete(tensors, header).in(path));
  Result<std::vector<AdaptedTensor>> adapted =
      undo_rwkv_cpp_conversion(tensors, static_cast<uint64_t>(header.n_embed));
  RWKV_TRY(adapted.status().in(path));
  return open_adapted("rwkv.cpp", std::move(file), adapted.take(),
                      {{"rwkv.cpp file version", std::to_string(header.version)}});
}

}  // namespace rwkv
