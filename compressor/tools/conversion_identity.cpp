#include "compressor/tools/conversion_identity.h"

#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/checksum.h"
#include "formats/cli/version.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::press {
namespace {

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

void add(StreamingXxh64& hash, const std::string& text) {
  const std::vector<size_t> size = {text.size()};
  hash.update(bytes_of(size));
  hash.update(std::as_bytes(std::span(text)));
}

void add(StreamingXxh64& hash, const at::Tensor& tensor) {
  if (tensor.defined()) {
    const at::Tensor all = tensor.contiguous();
    add(hash, std::string(all.toString()) + fmt::format(" {}", all.numel()));
    hash.update({static_cast<const std::byte*>(all.data_ptr()), all.nbytes()});
  }
}

uint64_t hash_of(const Vocabulary& vocabulary) {
  GgufMetadata metadata;
  vocabulary_to_metadata(vocabulary, metadata);
  StreamingXxh64 hash;
  for (const auto& [key, value] : metadata.entries()) {
    add(hash, key);
    if (const auto* const texts = std::get_if<std::vector<std::string>>(&value.value)) {
      for (const std::string& text : *texts) {
        add(hash, text);
      }
    } else if (const auto* const numbers = std::get_if<std::vector<int64_t>>(&value.value)) {
      hash.update(bytes_of(*numbers));
    } else if (const auto* const counts = std::get_if<std::vector<uint64_t>>(&value.value)) {
      hash.update(bytes_of(*counts));
    } else {
      add(hash, value_to_string(value));
    }
  }
  return hash.digest();
}

uint64_t hash_of(const Calibration& calibration) {
  StreamingXxh64 hash;
  add(hash, calibration.tokens);
  add(hash, calibration.frequencies);
  return hash.digest();
}

}  // namespace

Result<ConversionIdentity> conversion_identity(const ConversionInputs& inputs) {
  std::vector<std::string> lines = {fmt::format("program: {}", cli::kVersion)};
  RWKV_ASSIGN(const uint64_t checkpoint, checkpoint_xxh64(inputs.path));
  const ModelConfig& config = inputs.input.model.config;
  lines.push_back(fmt::format("checkpoint: {:016x}, {}, epsilon {}", checkpoint, describe(config),
                              config.group_norm_eps));
  for (const std::string& file : inputs.merge.files) {
    RWKV_ASSIGN(const uint64_t adapter, checkpoint_xxh64(file));
    lines.push_back(fmt::format("merged: {:016x}", adapter));
  }
  if (inputs.merge.alpha) {
    lines.push_back(fmt::format("alpha: {}", *inputs.merge.alpha));
  }
  if (inputs.calibration) {
    lines.push_back(fmt::format("calibration: {:016x}, seed {}", hash_of(*inputs.calibration),
                                inputs.calibration->seed));
  }
  if (!inputs.statistics.empty()) {
    RWKV_ASSIGN(const uint64_t statistics, file_xxh64(inputs.statistics));
    lines.push_back(fmt::format("statistics: {:016x}", statistics));
  }
  if (trains(inputs.recipe)) {
    for (const std::string& file : inputs.training.data) {
      RWKV_ASSIGN(const uint64_t text, file_xxh64(file));
      lines.push_back(fmt::format("text of the training: {:016x}", text));
    }
    if (inputs.training.vocabulary) {
      lines.push_back(fmt::format("vocabulary: {:016x}", hash_of(*inputs.training.vocabulary)));
    }
  }
  return identity_of(inputs.recipe, std::move(lines));
}

}  // namespace rwkv::press
