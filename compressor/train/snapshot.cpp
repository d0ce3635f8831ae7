#include "compressor/train/snapshot.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sstream>

#include "compressor/checkpoint/sealed_file.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/little_endian.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kSuffix = ".safetensors";
constexpr size_t kKept = 2;
constexpr const char* kStep = "train.step";
constexpr const char* kSeconds = "train.seconds";
constexpr const char* kSettings = "train.settings";
constexpr const char* kThreads = "train.threads";
constexpr double kMaxSeconds = 1e10;  // three centuries
constexpr uint64_t kMaxSettings = uint64_t{1} << 20;
constexpr uint64_t kMaxRanks = uint64_t{1} << 16;

struct Piece {
  TensorInfo info;
  const void* data;
  at::Tensor held = {};  ///< what `data` is of, where it had to be fetched from a device
};

Piece piece(const std::string& name, const at::Tensor& values) {
  const at::Tensor here = values.detach().cpu();
  return {
      {name, DType::F32, {here.sizes().begin(), here.sizes().end()}}, here.data_ptr<float>(), here};
}

std::string name_of(uint64_t step) {
  return fmt::format("{}{:08}{}", kPrefix, step, kSuffix);
}

struct Found {
  uint64_t step;
  std::string path;
  auto operator<=>(const Found&) const = default;
};

// Snapshots by step. Files with other names are ignored.
Result<std::vector<Found>> all_states(const std::string& folder) {
  std::vector<Found> found;
  std::error_code unlisted;
  fs::directory_iterator entries(folder, unlisted);
  while (unlisted == std::errc::interrupted) {
    entries = fs::directory_iterator(folder, unlisted);
  }
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename().string();
    const std::string stem = entry.path().stem().string();
    const std::string_view digits =
        std::string_view(stem).substr(std::min(stem.size(), std::string_view(kPrefix).size()));
    uint64_t step = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
    if (error == std::errc() && end == digits.data() + digits.size() && name == name_of(step)) {
      found.push_back({step, entry.path().string()});
    }
  }
  // Taken for an empty folder, it would let a training begin again.
  if (unlisted && unlisted != std::errc::no_such_file_or_directory) {
    return failed("{}: cannot list the snapshots: {}", folder, unlisted.message());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// A parameter, or what the optimiser has for it. Squares are never below 0.
Status read_into(const TensorSource& source, const std::string& name, bool is_square,
                 at::Tensor& values) {
  RWKV_ASSIGN(const at::Tensor found, load_named(source, name));
  if (found.sizes() != values.sizes()) {
    return bad_input("{}: '{}' has {} numbers, the model's has {}", source.path(), name,
                     found.numel(), values.numel());
  }
  const bool is_sound = at::isfinite(found).all().item<bool>() &&
                        (!is_square || found.numel() == 0 || found.min().item<float>() >= 0);
  if (!is_sound) {
    return bad_input("{}: expected {} in '{}', found others", source.path(),
                     is_square ? "finite values of 0 or more" : "finite values", name);
  }
  values.copy_(found);
  return {};
}

// The bytes of a tensor of at least one and at most `most` elements.
Result<std::vector<std::byte>> read_raw(const TensorSource& source, const std::string& name,
                                        DType dtype, uint64_t most) {
  const std::optional<size_t> index = find_tensor(source, name);
  if (!index) {
    return bad_input("{}: is not a snapshot of a training, '{}' is missing", source.path(), name);
  }
  const TensorInfo& info = source.tensors()[*index];
  const uint64_t n = info.n_bytes() / traits(dtype).block_bytes;
  if (info.dtype != dtype || n < 1 || n > most) {
    return bad_input("{}: expected 1 to {} values of {} in '{}', found {} bytes of {}",
                     source.path(), most, traits(dtype).name, name, info.n_bytes(),
                     traits(info.dtype).name);
  }
  std::vector<std::byte> raw;
  RWKV_TRY(source.read(*index, raw));
  return raw;
}

Status check_counters(const std::string& path, const Snapshot& state, uint64_t steps) {
  if (fs::path(path).filename().string() != name_of(state.step)) {
    return bad_input("{}: expected the step of its name, found step {}; it is another snapshot",
                     path, state.step);
  }
  if (state.step < 1 || state.step > steps) {
    return bad_input("{}: expected a step from 1 to {}, found {}", path, steps, state.step);
  }
  if (!(state.seconds >= 0 && state.seconds <= kMaxSeconds)) {
    return bad_input("{}: expected 0 to {:.0e} seconds of training, found {}", path, kMaxSeconds,
                     state.seconds);
  }
  return {};
}

Status read_threads(const TensorSource& source, Snapshot& state) {
  RWKV_ASSIGN(const auto raw, read_raw(source, kThreads, DType::I64, kMaxRanks));
  for (size_t at = 0; at < raw.size(); at += sizeof(int64_t)) {
    const auto n = load_le<int64_t>(raw.data() + at);
    if (n < 1 || n > kMaxTrainThreads) {
      return bad_input("{}: expected 1 to {} threads for each process, found {}", source.path(),
                       kMaxTrainThreads, n);
    }
    state.threads.push_back(static_cast<int>(n));
  }
  return {};
}

}  // namespace

std::string settings_difference(const std::string& saved, const std::string& expected) {
  std::istringstream a(saved);
  std::istringstream b(expected);
  std::string line_a;
  std::string line_b;
  while (std::getline(a, line_a) && std::getline(b, line_b)) {
    if (line_a != line_b) {
      return fmt::format("saved '{}', now '{}'", printable(line_a), line_b);
    }
  }
  return "their number of lines";
}

Result<std::string> save_snapshot(const std::string& folder, const Snapshot& state,
                                  AdamW& optimizer) {
  const auto step = static_cast<int64_t>(state.step);
  const std::vector<int64_t> threads(state.threads.begin(), state.threads.end());
  std::vector<Piece> pieces = {
      {{kStep, DType::I64, {1}}, &step},
      {{kSeconds, DType::F64, {1}}, &state.seconds},
      {{kThreads, DType::I64, {threads.size()}}, threads.data()},
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
  const std::string path = (fs::path(folder) / name_of(state.step)).string();
  RWKV_TRY(write_sealed(path, OutputFile::Existing::Replace, infos,
                        [&](size_t i, std::vector<std::byte>& out) -> Status {
                          out.resize(pieces[i].info.n_bytes());
                          std::memcpy(out.data(), pieces[i].data, out.size());
                          return {};
                        }));
  RWKV_ASSIGN(std::vector<Found> all, all_states(folder));
  std::erase_if(all, [&](const Found& found) { return found.step > state.step; });
  for (size_t i = 0; i + kKept < all.size(); ++i) {
    std::error_code ignored;
    fs::remove(all[i].path, ignored);
  }
  return path;
}

Result<std::vector<std::string>> snapshots_in(const std::string& folder) {
  RWKV_ASSIGN(const std::vector<Found> all, all_states(folder));
  std::vector<std::string> paths;
  for (const Found& found : all) {
    paths.insert(paths.begin(), found.path);
  }
  return paths;
}

Result<Snapshot> load_snapshot(const std::string& path, const std::string& settings, uint64_t steps,
                               AdamW& optimizer) {
  RWKV_ASSIGN(const auto source, open_sealed(path));
  Snapshot state;
  RWKV_ASSIGN(const auto step, read_raw(*source, kStep, DType::I64, 1));
  state.step = load_le<uint64_t>(step.data());
  RWKV_ASSIGN(const auto seconds, read_raw(*source, kSeconds, DType::F64, 1));
  state.seconds = load_le<double>(seconds.data());
  RWKV_ASSIGN(const auto saved, read_raw(*source, kSettings, DType::U8, kMaxSettings));
  state.settings.assign(reinterpret_cast<const char*>(saved.data()), saved.size());
  if (state.settings != settings) {
    return usage_error(
        "{}: was saved by a training with other settings ({}); use the same ones, or start again "
        "without --resume",
        path, settings_difference(state.settings, settings));
  }
  RWKV_TRY(check_counters(path, state, steps));
  RWKV_TRY(read_threads(*source, state));
  for (size_t i = 0; i < optimizer.parameters().size(); ++i) {
    const Parameter& parameter = optimizer.parameters()[i];
    at::Tensor values = parameter.values.detach();
    RWKV_TRY(read_into(*source, "values." + parameter.name, false, values));
    RWKV_TRY(read_into(*source, "mean." + parameter.name, false, optimizer.mean(i)));
    RWKV_TRY(read_into(*source, "square." + parameter.name, true, optimizer.square(i)));
  }
  return state;
}

}  // namespace rwkv::press
