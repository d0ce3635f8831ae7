#include "compressor/checkpoint/imatrix_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "formats/base/byte_reader.h"
#include "formats/base/damaged.h"
#include "formats/base/little_endian.h"
#include "formats/base/printable.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/gguf_writer.h"

namespace rwkv::press {
namespace {

constexpr const char* kType = "general.type";
constexpr const char* kImatrix = "imatrix";
constexpr std::string_view kSums = ".in_sum2";
constexpr std::string_view kCounts = ".counts";
constexpr const char* kOldEnding = ".dat";
constexpr uint64_t kMostBytes = uint64_t{1} << 30;  // far more than any model's
constexpr int32_t kMostEntries = 1 << 20;
constexpr int32_t kMostName = 256;

bool is_old(const std::string& path) {
  return std::filesystem::path(path).extension() == kOldEnding;
}

bool begins_as_gguf(const InputFile& file) {
  std::array<std::byte, 4> magic{};
  return file.size() >= magic.size() && file.read_at(0, magic).ok() && looks_like_gguf(magic);
}

// Adds the means of one matrix: sums over `n`, each of `sums.size() / counts.size()` inputs.
Status add_means(const std::string& name, std::span<const float> sums,
                 std::span<const float> counts, Imatrix& imatrix) {
  if (counts.empty() || sums.empty() || sums.size() % counts.size() != 0) {
    return damaged("matrix '{}': expected sums for each of its counts, found {} and {}",
                   printable(name, kMostName), sums.size(), counts.size());
  }
  const size_t per_count = sums.size() / counts.size();
  std::vector<float> means(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) {
    const float count = counts[i / per_count];
    means[i] = count > 0 ? sums[i] / count : 0;
    if (!(count >= 0) || !std::isfinite(count) || !(sums[i] >= 0) || !std::isfinite(sums[i]) ||
        !std::isfinite(means[i])) {
      return damaged("matrix '{}': expected sums of squares and counts, found {} over {}",
                     printable(name, kMostName), sums[i], count);
    }
  }
  const bool occurred =
      std::any_of(counts.begin(), counts.end(), [](float count) { return count > 0; });
  if (occurred && !imatrix.mean_squares.emplace(name, std::move(means)).second) {
    return damaged("matrix '{}' occurs twice", printable(name, kMostName));
  }
  return {};
}

Result<std::vector<float>> floats(std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = load_le<float>(bytes.data() + i * sizeof(float));
  }
  return values;
}

Result<std::vector<float>> read_floats(const InputFile& file, const GgufTensor& tensor) {
  if (tensor.dtype != DType::F32) {
    return damaged("tensor '{}': expected f32, found {}", printable(tensor.name, kMostName),
                   traits(tensor.dtype).name);
  }
  std::vector<std::byte> bytes(tensor.n_bytes);
  RWKV_TRY(file.read_at(tensor.offset, bytes));
  return floats(bytes);
}

Status read_gguf(const InputFile& file, Imatrix& imatrix) {
  RWKV_ASSIGN(const GgufFile gguf, GgufFile::read(file));
  const auto type = gguf.metadata().get_string(kType);
  if (!type.ok() || type.value() != kImatrix) {
    return bad_input(
        "{}: expected an imatrix of llama.cpp, found another GGUF file; make one with "
        "llama-imatrix or rwkv-press calibrate --imatrix",
        file.path());
  }
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (!tensor.name.ends_with(kSums)) {
      continue;
    }
    const std::string name = tensor.name.substr(0, tensor.name.size() - kSums.size());
    const GgufTensor* counts = gguf.find(name + std::string(kCounts));
    if (!counts) {
      return damaged("{}: matrix '{}' has sums and no counts", file.path(),
                     printable(name, kMostName));
    }
    const auto add = [&]() -> Status {
      RWKV_ASSIGN(const std::vector<float> sums, read_floats(file, tensor));
      RWKV_ASSIGN(const std::vector<float> n, read_floats(file, *counts));
      return add_means(name, sums, n, imatrix);
    };
    RWKV_TRY(add().in(file.path()));
  }
  return {};
}

// i32 entries; of each i32 length, name, i32 calls, i32 n, f32 [n]. What follows is not read.
Status read_old(const InputFile& file, Imatrix& imatrix) {
  std::vector<std::byte> bytes(file.size());
  RWKV_TRY(file.read_at(0, bytes));
  ByteReader in(bytes, file.path());
  RWKV_ASSIGN(const auto n_entries, in.number<int32_t>("the number of matrices"));
  if (n_entries < 1 || n_entries > kMostEntries) {
    return bad_input(
        "{}: expected an imatrix of llama.cpp, found {} matrices at byte 0; make one "
        "with llama-imatrix or rwkv-press calibrate --imatrix",
        file.path(), n_entries);
  }
  for (int32_t i = 0; i < n_entries; ++i) {
    RWKV_ASSIGN(const auto length, in.number<int32_t>("the length of a name"));
    if (length < 1 || length > kMostName) {
      return damaged("{}: expected a name of 1 to {} bytes at offset {}, found {}", file.path(),
                     kMostName, in.offset(), length);
    }
    RWKV_ASSIGN(const std::string_view name,
                in.text(static_cast<uint64_t>(length), "the name of a matrix"));
    RWKV_ASSIGN(const auto n_calls, in.number<int32_t>("a count"));
    RWKV_ASSIGN(const auto n, in.number<int32_t>("a size"));
    if (n < 1) {
      return damaged("{}: expected sums at offset {}, found {}", file.path(), in.offset(), n);
    }
    RWKV_ASSIGN(const auto raw,
                in.bytes(static_cast<uint64_t>(n) * sizeof(float), "the sums of a matrix"));
    RWKV_ASSIGN(const std::vector<float> sums, floats(raw));
    const std::array<float, 1> count = {static_cast<float>(n_calls)};
    RWKV_TRY(add_means(std::string(name), sums, count, imatrix).in(file.path()));
  }
  return {};
}

Status write_gguf(const std::string& path, OutputFile::Existing existing,
                  std::span<const ImatrixSums> matrices, const std::string& text, uint64_t chunk) {
  GgufMetadata metadata;
  uint64_t n_tokens = 0;
  std::vector<GgufTensorPlan> plans;
  for (const ImatrixSums& matrix : matrices) {
    const uint64_t n = matrix.sums.size();
    plans.push_back({matrix.name + std::string(kSums), GgmlType::F32, {n, 1}, n * sizeof(float)});
    plans.push_back({matrix.name + std::string(kCounts), GgmlType::F32, {1, 1}, sizeof(float)});
    n_tokens = std::max(n_tokens, matrix.n_tokens);
  }
  metadata.set(kType, GgufValue::string(kImatrix));
  metadata.set("imatrix.datasets", GgufValue::strings({text}));
  metadata.set("imatrix.chunk_count", GgufValue::u32(static_cast<uint32_t>(n_tokens / chunk)));
  metadata.set("imatrix.chunk_size", GgufValue::u32(static_cast<uint32_t>(chunk)));
  RWKV_ASSIGN(const auto writer,
              GgufWriter::create(path, existing, std::move(metadata), std::move(plans)));
  for (const ImatrixSums& matrix : matrices) {
    RWKV_TRY(writer->append(std::as_bytes(std::span(matrix.sums))));
    const std::array<float, 1> count = {static_cast<float>(matrix.n_tokens)};
    RWKV_TRY(writer->append(std::as_bytes(std::span(count))));
  }
  return writer->finish();
}

Status write_old(const std::string& path, OutputFile::Existing existing,
                 std::span<const ImatrixSums> matrices, const std::string& text, uint64_t chunk) {
  std::vector<std::byte> out;
  const auto number = [&out](uint64_t value) {
    out.resize(out.size() + sizeof(int32_t));
    store_le(out.data() + out.size() - sizeof(int32_t), static_cast<int32_t>(value));
  };
  const auto bytes = [&out](std::span<const std::byte> more) {
    out.insert(out.end(), more.begin(), more.end());
  };
  uint64_t n_chunks = 0;
  number(matrices.size());
  for (const ImatrixSums& matrix : matrices) {
    number(matrix.name.size());
    bytes(std::as_bytes(std::span(matrix.name)));
    const uint64_t n_calls = (matrix.n_tokens + chunk - 1) / chunk;
    n_chunks = std::max(n_chunks, n_calls);
    number(n_calls);
    number(matrix.sums.size());
    std::vector<float> scaled = matrix.sums;
    for (float& sum : scaled) {
      sum = sum / static_cast<float>(matrix.n_tokens) * static_cast<float>(n_calls);
    }
    bytes(std::as_bytes(std::span(scaled)));
  }
  number(n_chunks);
  number(text.size());
  bytes(std::as_bytes(std::span(text)));
  RWKV_ASSIGN(const auto file, OutputFile::create(path, existing));
  RWKV_TRY(file->write(out));
  return file->commit();
}

}  // namespace

bool looks_like_imatrix(const std::string& path) {
  const auto file = InputFile::open(path);
  return file.ok() && (is_old(path) || begins_as_gguf(*file.value()));
}

Result<Imatrix> read_imatrix(const std::string& path) {
  RWKV_ASSIGN(const std::shared_ptr<InputFile> file, InputFile::open(path));
  if (file->size() > kMostBytes) {
    return bad_input("{}: expected an imatrix of at most {} bytes, found {}; name another file",
                     path, kMostBytes, file->size());
  }
  Imatrix imatrix;
  imatrix.path = path;
  RWKV_TRY(begins_as_gguf(*file) ? read_gguf(*file, imatrix) : read_old(*file, imatrix));
  if (imatrix.mean_squares.empty()) {
    return bad_input(
        "{}: expected an imatrix of llama.cpp, found no matrix in it; make one with "
        "llama-imatrix or rwkv-press calibrate --imatrix",
        path);
  }
  return imatrix;
}

Status write_imatrix(const std::string& path, OutputFile::Existing existing,
                     std::vector<ImatrixSums> matrices, const std::string& text, uint64_t chunk) {
  std::sort(matrices.begin(), matrices.end(),
            [](const ImatrixSums& a, const ImatrixSums& b) { return a.name < b.name; });
  return (is_old(path) ? write_old : write_gguf)(path, existing, matrices, text, chunk);
}

}  // namespace rwkv::press
