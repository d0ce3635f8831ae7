#include "compressor/train/snapshot.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "compressor/checkpoint/tensor.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/little_endian.h"
#include "formats/container/safetensors_reader.h"
#include "formats/container/safetensors_writer.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kSuffix = ".safetensors";
constexpr size_t kKept = 2;
constexpr const char* kStep = "train.step";
constexpr const char* kSeconds = "train.seconds";
constexpr const char* kSettings = "train.settings";

struct Piece {
  TensorInfo info;
  const void* data;
};

Piece piece(const std::string& name, const at::Tensor& values) {
  return {{name, DType::F32, {values.sizes().begin(), values.sizes().end()}},
          values.data_ptr<float>()};
}

// Snapshots by step. Files with other names are ignored.
Result<std::vector<std::string>> all_states(const std::string& folder) {
  std::vector<std::pair<uint64_t, std::string>> found;
  std::error_code unlisted;
  fs::directory_iterator entries(folder, unlisted);
  while (unlisted == std::errc::interrupted) {
    entries = fs::directory_iterator(folder, unlisted);
  }
  for (const auto& entry : entries) {
    const std::string stem = entry.path().stem().string();
    const std::string_view digits =
        std::string_view(stem).substr(std::min(stem.size(), std::string_view(kPrefix).size()));
    uint64_t step = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
    if (stem.starts_with(kPrefix) && entry.path().extension() == kSuffix && error == std::errc() &&
        end == digits.data() + digits.size()) {
      found.emplace_back(step, entry.path().string());
    }
  }
  // Taken for an empty folder, it would let a training begin again.
  if (unlisted && unlisted != std::errc::no_such_file_or_directory) {
    return failed("{}: cannot list the snapshots: {}", folder, unlisted.message());
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> paths;
  for (auto& [step, path] : found) {
    paths.push_back(std::move(path));
  }
  return paths;
}

Status read_into(const TensorSource& source, const std::string& name, at::Tensor& values) {
  RWKV_ASSIGN(const at::Tensor found, load_named(source, name));
  if (found.sizes() != values.sizes()) {
    return bad_input("{}: '{}' has {} numbers, the model's has {}", source.path(), name,
                     found.numel(), values.numel());
  }
  std::memcpy(values.data_ptr<float>(), found.data_ptr<float>(),
              static_cast<size_t>(values.numel()) * sizeof(float));
  return {};
}

Result<std::vector<std::byte>> read_raw(const TensorSource& source, const std::string& name,
                                        size_t least) {
  const std::optional<size_t> index = find_tensor(source, name);
  std::vector<std::byte> raw;
  if (index) {
    RWKV_TRY(source.read(*index, raw));
  }
  if (raw.size() < least) {
    return bad_input("{}: is not a snapshot of a training, '{}' is missing", source.path(), name);
  }
  return raw;
}

// The first line in which two settings differ, for the message.
std::string difference(const std::string& saved, const std::string& expected) {
  std::istringstream a(saved);
  std::istringstream b(expected);
  std::string line_a;
  std::string line_b;
  while (std::getline(a, line_a) && std::getline(b, line_b)) {
    if (line_a != line_b) {
      return fmt::format("saved '{}', now '{}'", line_a, line_b);
    }
  }
  return "their number of lines";
}

}  // namespace

Status save_snapshot(const std::string& folder, const Snapshot& state, AdamW& optimizer) {
  const auto step = static_cast<int64_t>(state.step);
  std::vector<Piece> pieces = {
      {{kStep, DType::I64, {1}}, &step},
      {{kSeconds, DType::F64, {1}}, &state.seconds},
      {{kSettings, DType::U8, {state.settings.size()}}, state.settings.data()}};
  for (size_t i = 0; i < optimizer.parameters().size(); ++i) {
    const Parameter& parameter = optimizer.parameters()[i];
    pieces.push_back(piece("values." + parameter.name, parameter.values));
    pieces.push_back(piece("mean." + parameter.name, optimizer.mean(i)));
    pieces.push_back(piece("square." + parameter.name, optimizer.square(i)));
  }
  std::vector<TensorInfo> infos;
  for (const Piece& each : pieces) {
    infos.push_back(each.info);
  }
  const std::string path =
      (fs::path(folder) / fmt::format("{}{:08}{}", kPrefix, state.step, kSuffix)).string();
  RWKV_TRY(write_safetensors(path, OutputFile::Existing::Replace, infos,
                             [&](size_t i, std::vector<std::byte>& out) -> Status {
                               out.resize(pieces[i].info.n_bytes());
                               std::memcpy(out.data(), pieces[i].data, out.size());
                               return {};
                             }));
  RWKV_ASSIGN(const std::vector<std::string> all, all_states(folder));
  for (size_t i = 0; i + kKept < all.size(); ++i) {
    std::error_code ignored;
    fs::remove(all[i], ignored);
  }
  return {};
}

Result<std::optional<std::string>> newest_snapshot(const std::string& folder) {
  RWKV_ASSIGN(const std::vector<std::string> all, all_states(folder));
  return all.empty() ? std::optional<std::string>() : std::optional(all.back());
}

Result<Snapshot> load_snapshot(const std::string& path, const std::string& settings,
                               AdamW& optimizer) {
  RWKV_ASSIGN(const auto source, open_safetensors(path));
  Snapshot state;
  RWKV_ASSIGN(const auto step, read_raw(*source, kStep, sizeof(int64_t)));
  state.step = load_le<uint64_t>(step.data());
  RWKV_ASSIGN(const auto seconds, read_raw(*source, kSeconds, sizeof(double)));
  state.seconds = load_le<double>(seconds.data());
  RWKV_ASSIGN(const auto saved, read_raw(*source, kSettings, 1));
  state.settings.assign(reinterpret_cast<const char*>(saved.data()), saved.size());
  if (state.settings != settings) {
    return usage_error(
        "{}: was saved by a training with other settings ({}); use the same ones, or start again "
        "without --resume",
        path, difference(state.settings, settings));
  }
  for (size_t i = 0; i < optimizer.parameters().size(); ++i) {
    const Parameter& parameter = optimizer.parameters()[i];
    at::Tensor values = parameter.values.detach();
    RWKV_TRY(read_into(*source, "values." + parameter.name, values));
    RWKV_TRY(read_into(*source, "mean." + parameter.name, optimizer.mean(i)));
    RWKV_TRY(read_into(*source, "square." + parameter.name, optimizer.square(i)));
  }
  return state;
}

}  // namespace rwkv::press
