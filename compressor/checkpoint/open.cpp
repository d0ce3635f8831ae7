#include "compressor/checkpoint/open.h"

#include <array>
#include <cstring>

#include "compressor/checkpoint/adapter.h"
#include "compressor/checkpoint/packed_source.h"
#include "compressor/checkpoint/pth_reader.h"
#include "formats/base/little_endian.h"
#include "formats/container/llama_cpp_reader.h"
#include "formats/container/packed_tensors.h"
#include "formats/container/rwkv_cpp_reader.h"
#include "formats/container/safetensors_reader.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::press {
namespace {

constexpr uint32_t kRwkvCppMagic = 0x67676d66;  // "ggmf"
constexpr unsigned char kPickleProtocol = 0x80;
constexpr size_t kHeadBytes = 16;

enum class Kind { Pth, Safetensors, RwkvCpp, Gguf };

Result<Kind> tell_kind(const InputFile& file) {
  if (file.size() == 0) {
    return bad_input("{}: expected a checkpoint, found an empty file", file.path());
  }
  std::array<std::byte, kHeadBytes> head{};
  const size_t n = std::min<uint64_t>(file.size(), head.size());
  RWKV_TRY(file.read_at(0, std::span(head).first(n)));
  const auto* text = reinterpret_cast<const char*>(head.data());
  if (std::memcmp(text, "GGUF", 4) == 0) {
    return Kind::Gguf;
  }
  if (n >= 4 && load_le<uint32_t>(head.data()) == kRwkvCppMagic) {
    return Kind::RwkvCpp;
  }
  // The header length of a safetensors file may look like the magic of another format: the brace
  // after it decides.
  if (n > 8 && text[8] == '{' && load_le<uint64_t>(head.data()) < file.size()) {
    return Kind::Safetensors;
  }
  if (std::memcmp(text, "PK", 2) == 0 || static_cast<unsigned char>(text[0]) == kPickleProtocol) {
    return Kind::Pth;
  }
  return bad_input(
      "{}: expected a checkpoint (.pth, .safetensors, rwkv.cpp .bin or GGUF), found a file that "
      "begins "
      "with {:02x} {:02x} {:02x} {:02x}",
      file.path(), static_cast<unsigned char>(text[0]), static_cast<unsigned char>(text[1]),
      static_cast<unsigned char>(text[2]), static_cast<unsigned char>(text[3]));
}

Result<Checkpoint> open_gguf(std::shared_ptr<InputFile> input) {
  Checkpoint checkpoint;
  RWKV_ASSIGN(const auto mapping, MappedFile::open(input->path()));
  RWKV_ASSIGN(const GgufFile file, GgufFile::parse(mapping->bytes(), input->path()));
  if (has_vocabulary(file.metadata())) {
    auto vocabulary = vocabulary_from_metadata(file.metadata());
    if (!vocabulary.ok()) {
      return vocabulary.status().in(input->path());
    }
    checkpoint.vocabulary = vocabulary.take();
  }
  if (!is_packed(file)) {
    RWKV_ASSIGN(checkpoint.source, open_llama_cpp_gguf(input->path()));
    return checkpoint;
  }
  checkpoint.is_packed = true;
  RWKV_ASSIGN(const std::vector<PackedTensor> tensors, packed_tensors(file));
  for (const PackedTensor& tensor : tensors) {
    checkpoint.is_quantized |= codec_traits(tensor.codec).is_lossy;
  }
  RWKV_ASSIGN(checkpoint.source, open_packed(std::move(input), file));
  return checkpoint;
}

}  // namespace

Result<Checkpoint> open_checkpoint(const std::string& path) {
  RWKV_ASSIGN(std::shared_ptr<InputFile> input, InputFile::open(path));
  RWKV_ASSIGN(const Kind kind, tell_kind(*input));
  Checkpoint checkpoint;
  switch (kind) {
    case Kind::Pth: {
      RWKV_ASSIGN(checkpoint.source, open_pth(path));
      return checkpoint;
    }
    case Kind::Safetensors: {
      RWKV_ASSIGN(checkpoint.source, open_safetensors(path));
      return checkpoint;
    }
    case Kind::RwkvCpp: {
      RWKV_ASSIGN(checkpoint.source, open_rwkv_cpp(path));
      return checkpoint;
    }
    case Kind::Gguf:
      return open_gguf(std::move(input));
  }
  return checkpoint;
}

Result<Identified> identify_checkpoint(const TensorSource& source) {
  if (is_tuned_state(source)) {
    return bad_input(
        "{}: is a tuned state and not a model; convert the model with --merge {}, or write the "
        "state as .safetensors with rwkv-press export, for rwkv-edge --state",
        source.path(), source.path());
  }
  auto model = identify(source.tensors(), ShapesAre::AsInCheckpoint);
  if (!model.ok()) {
    return model.status().in(source.path());
  }
  // A packed file records the form of its pairs, and its linear pairs may have a diagonal.
  const auto metadata = source.metadata();
  const auto form = metadata.find("rwkv.low_rank");
  if (form != metadata.end() && form->second == low_rank_form_name(LowRankForm::Linear)) {
    model.value().config.low_rank = LowRankForm::Linear;
  }
  for (const TensorBinding& binding : model.value().tensors) {
    const TensorInfo& info = source.tensors()[binding.source];
    if (!traits(info.dtype).is_float && traits(info.dtype).block == 1) {
      return bad_input("{}: tensor '{}': expected floats, found {}", source.path(), info.name,
                       traits(info.dtype).name);
    }
  }
  return model;
}

}  // namespace rwkv::press
