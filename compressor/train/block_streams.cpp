#include "compressor/train/block_streams.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <filesystem>

#include "compressor/model/ends.h"
#include "compressor/numerics/tensor_ops.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

// Tokens that are computed together.
constexpr int64_t kChunkTokens = 4096;
constexpr double kNoEnergy = 0.0;

}  // namespace

// v7's later blocks read what the first one gives.
bool BlockStreams::has_first_values() const {
  return setting_.student.model.config.version == Version::V7;
}

ActivationShape BlockStreams::shape(Side side, int64_t index) const {
  const ModelConfig& config = setting_.teacher.model.config;
  const auto n_embd = static_cast<int64_t>(config.n_embd);
  const auto dim_att = static_cast<int64_t>(config.dim_att);
  ActivationShape shape{setting_.n_sequences,
                        static_cast<uint64_t>(std::max<int64_t>(1, kChunkTokens / setting_.length)),
                        {{"x", setting_.length, n_embd}}};
  if (has_first_values() && index == 1) {
    shape.parts.push_back({"v_first", setting_.length, dim_att});
  }
  if (side == kTeacher && index > 0) {
    const bool is_v4 = config.version == Version::V4;
    shape.parts.push_back({"wkv", is_v4 ? 1 : static_cast<int64_t>(config.head_size), dim_att});
    shape.parts.push_back({"shift", 2, n_embd});
  }
  return shape;
}

std::string BlockStreams::path(Side side, int64_t index) const {
  return (fs::path(setting_.folder) /
          fmt::format("{}-{:04}.safetensors", side == kTeacher ? "teacher" : "student", index))
      .string();
}

Result<ActivationFile> BlockStreams::open(Side side, int64_t index) {
  RWKV_TRY(write(side, index));
  return ActivationFile::open(path(side, index), shape(side, index), setting_.settings);
}

Result<std::optional<ActivationFile>> BlockStreams::first_values(bool is_students, int64_t index) {
  std::optional<ActivationFile> file;
  if (has_first_values() && index > 0) {
    RWKV_ASSIGN(file, open(is_students ? kStudent : kTeacher, 1));
  }
  return file;
}

// Unless it is there.
Status BlockStreams::write(Side side, int64_t index) {
  if (has_first_values() && index > 1) {
    RWKV_TRY(write(side, 1));
  }
  std::error_code error;
  if (fs::exists(path(side, index), error)) {
    return {};
  }
  if (index == 0) {
    return write_embedding(side);
  }
  RWKV_TRY(write(side, index - 1));
  return write_after(side, index);
}

Status BlockStreams::write_embedding(Side side) {
  const ModelRef& model = side == kTeacher ? setting_.teacher : setting_.student;
  const ActivationShape all = shape(side, 0);
  const auto make = [&](uint64_t chunk) -> Result<ActivationChunk> {
    RWKV_ASSIGN(
        const at::Tensor tokens,
        setting_.tokens(chunk * all.per_chunk, static_cast<int64_t>(all.size_of_chunk(chunk))));
    RWKV_ASSIGN(const at::Tensor x, embed(model.source, model.model.config, tokens));
    return ActivationChunk{x};
  };
  return write_activations(path(side, 0), all, setting_.settings, make, kNoEnergy);
}

Status BlockStreams::write_after(Side side, int64_t index) {
  const at::NoGradGuard no_grad;
  const ModelRef& model = side == kTeacher ? setting_.teacher : setting_.student;
  RWKV_ASSIGN(const auto block,
              Block::load(model.source, model.model.config, index - 1, setting_.device));
  block->precision = setting_.precision;
  RWKV_ASSIGN(const ActivationFile before, open(side, index - 1));
  RWKV_ASSIGN(const auto first, first_values(side == kStudent, index - 1));
  const ActivationShape all = shape(side, index);
  const std::string what =
      fmt::format("{} block {}", side == kTeacher ? "teacher's" : "student's", index - 1);
  double energy = 0;
  const auto make = [&](uint64_t chunk) -> Result<ActivationChunk> {
    RWKV_ASSIGN(at::Tensor x, before.chunk(kStreamX, chunk));
    x = x.to(setting_.device);
    at::Tensor v_first;
    if (first) {
      RWKV_ASSIGN(v_first, first->chunk(kFirstValues, chunk));
      v_first = v_first.flatten(0, 1).to(setting_.device);
    }
    BlockState state;
    ActivationChunk values = {block->forward(x, v_first, {}, side == kTeacher ? &state : nullptr)};
    energy += block_energy(values[kStreamX], x) * static_cast<double>(x.size(0)) /
              static_cast<double>(setting_.n_sequences);
    if (has_first_values() && index == 1) {
      values.push_back(v_first.reshape({x.size(0), x.size(1), -1}));
    }
    if (side == kTeacher) {
      values.push_back(state.wkv);
      values.push_back(state.shift);
    }
    setting_.progress(what, static_cast<double>(chunk + 1) / static_cast<double>(all.n_chunks()));
    std::transform(values.begin(), values.end(), values.begin(),
                   [](const at::Tensor& value) { return value.cpu(); });
    return values;
  };
  return write_activations(path(side, index), all, setting_.settings, make, energy);
}

Result<BlockValues> BlockStreams::targets(const ActivationFile& file, int64_t index,
                                          std::span<const uint64_t> sequences) const {
  BlockValues values;
  size_t part = kStreamX;
  RWKV_ASSIGN(values.x, file.gather(part++, sequences));
  if (has_first_values() && index == 1) {
    RWKV_ASSIGN(values.v_first, file.gather(part++, sequences));
  }
  RWKV_ASSIGN(values.state.wkv, file.gather(part++, sequences));
  RWKV_ASSIGN(values.state.shift, file.gather(part++, sequences));
  return values;
}

void BlockStreams::remove_before(int64_t index) {
  const auto n_layer = static_cast<int64_t>(setting_.student.model.config.n_layer);
  for (int64_t i = 0; i < index; ++i) {
    if (i == 1 && has_first_values() && index <= n_layer) {
      continue;
    }
    for (const Side side : {kTeacher, kStudent}) {
      std::error_code ignored;
      fs::remove(path(side, i), ignored);
    }
  }
}

}  // namespace rwkv::press
