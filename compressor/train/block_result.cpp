#include "compressor/train/block_result.h"

#include <array>
#include <cstring>
#include <filesystem>

#include "compressor/checkpoint/sealed_file.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/snapshot.h"

namespace rwkv::press {
namespace {

constexpr std::string_view kValues = "values.";
constexpr std::string_view kCodes = "codes.";
constexpr const char* kErrors = "errors";
constexpr const char* kSettings = "settings";
constexpr uint64_t kMaxSettings = uint64_t{1} << 20;
// No codec has more bytes for a value, and what all rows share is small.
constexpr uint64_t kMostBytes = 8;
constexpr uint64_t kSharedBytes = 4096;

struct Piece {
  TensorInfo info;
  const void* data;
};

Status not_ours(const std::string& path, const std::string& name) {
  return bad_input(
      "{}: expected the tensors of a trained block, found '{}'; remove it, and the block is "
      "trained again",
      path, name);
}

Status read_tensor(
    const TensorSource& source, size_t index, BlockResult& result,
    const std::function<std::optional<uint64_t>(const std::string& name)>& numbers_of) {
  const TensorInfo& info = source.tensors()[index];
  const bool is_values = info.name.starts_with(kValues);
  const std::string name = info.name.substr((is_values ? kValues : kCodes).size());
  const std::optional<uint64_t> n = numbers_of(name);
  const bool fits = n && (is_values ? info.dtype == DType::F32 && info.n_elements() == *n
                                    : info.dtype == DType::U8 &&
                                          info.n_bytes() <= *n * kMostBytes + kSharedBytes);
  if (!fits) {
    return not_ours(source.path(), info.name);
  }
  if (!is_values) {
    return source.read(index, result.codes[name]);
  }
  RWKV_ASSIGN(at::Tensor values, load_f32(source, index));
  if (!at::isfinite(values).all().item<bool>()) {
    return bad_input("{}: expected finite values in '{}', found others", source.path(), info.name);
  }
  result.values.push_back({name, std::move(values)});
  return {};
}

}  // namespace

std::string block_path(const std::string& folder, int64_t block) {
  return (std::filesystem::path(folder) / fmt::format("block-{:04}.safetensors", block)).string();
}

Status save_block(const std::string& path, const BlockResult& result) {
  const std::array<double, 4> errors = {result.before.output, result.before.state,
                                        result.after.output, result.after.state};
  std::vector<at::Tensor> kept;
  std::vector<Piece> pieces = {
      {{kErrors, DType::F64, {errors.size()}}, errors.data()},
      {{kSettings, DType::U8, {result.settings.size()}}, result.settings.data()}};
  for (const Parameter& parameter : result.values) {
    kept.push_back(parameter.values.detach().cpu().to(at::kFloat).contiguous());
    pieces.push_back({{std::string(kValues) + parameter.name,
                       DType::F32,
                       {kept.back().sizes().begin(), kept.back().sizes().end()}},
                      kept.back().data_ptr<float>()});
  }
  for (const auto& [name, codes] : result.codes) {
    pieces.push_back({{std::string(kCodes) + name, DType::U8, {codes.size()}}, codes.data()});
  }
  std::vector<TensorInfo> infos;
  for (const Piece& piece : pieces) {
    infos.push_back(piece.info);
  }
  return write_sealed(path, OutputFile::Existing::Replace, infos,
                      [&](size_t i, std::vector<std::byte>& out) -> Status {
                        out.resize(pieces[i].info.n_bytes());
                        std::memcpy(out.data(), pieces[i].data, out.size());
                        return {};
                      });
}

Result<BlockResult> load_block(
    const std::string& path, const std::string& settings,
    const std::function<std::optional<uint64_t>(const std::string& name)>& numbers_of) {
  auto opened = open_sealed(path);
  if (!opened.ok()) {
    return opened.status().code() == Code::BadInput
               ? bad_input("{}; remove it, and the block is trained again",
                           opened.status().message())
               : opened.status();
  }
  const TensorSource& source = *opened.value();
  BlockResult result;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    std::vector<std::byte> bytes;
    if (info.name.starts_with(kValues) || info.name.starts_with(kCodes)) {
      RWKV_TRY(read_tensor(source, i, result, numbers_of));
    } else if (info.name == kErrors && info.dtype == DType::F64 && info.n_elements() == 4) {
      RWKV_TRY(source.read(i, bytes));
      std::array<double, 4> errors{};
      std::memcpy(errors.data(), bytes.data(), sizeof(errors));
      result.before = {errors[0], errors[1]};
      result.after = {errors[2], errors[3]};
    } else if (info.name == kSettings && info.n_bytes() <= kMaxSettings) {
      RWKV_TRY(source.read(i, bytes));
      result.settings.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
  }
  if (result.settings != settings) {
    return usage_error(
        "{}: was trained with other settings ({}); use the same ones, or remove the folder", path,
        settings_difference(result.settings, settings));
  }
  return result;
}

}  // namespace rwkv::press
