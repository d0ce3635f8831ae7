#include "compressor/checkpoint/open.h"

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "compressor/checkpoint/adapter.h"
#include "compressor/checkpoint/checkpoint_files.h"
#include "compressor/checkpoint/hf_config.h"
#include "compressor/checkpoint/packed_source.h"
#include "compressor/checkpoint/pth_reader.h"
#include "compressor/checkpoint/sharded_source.h"
#include "compressor/checkpoint/wrong_input.h"
#include "formats/arch/plain_source.h"
#include "formats/base/little_endian.h"
#include "formats/container/llama_cpp_names.h"
#include "formats/container/llama_cpp_reader.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_tensors.h"
#include "formats/container/rwkv_cpp_reader.h"
#include "formats/container/safetensors_reader.h"
#include "formats/tokenizer/vocabulary_metadata.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigName = "config.json";
constexpr const char* kGroupNormEps = "rwkv.group_norm_eps";
constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // as the reader accepts
constexpr uint32_t kRwkvCppMagic = 0x67676d66;           // "ggmf"
constexpr unsigned char kPickleProtocol = 0x80;
constexpr size_t kHeadBytes = 16;

enum class Kind { Pth, Safetensors, RwkvCpp, Gguf };

Result<Kind> tell_kind(const InputFile& file) {
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
  // after it decides. A header longer than the file is that of a file that was cut.
  if (n > 8 && text[8] == '{' && load_le<uint64_t>(head.data()) < kMaxSafetensorsHeader) {
    return Kind::Safetensors;
  }
  if (std::memcmp(text, "PK", 2) == 0 || static_cast<unsigned char>(text[0]) == kPickleProtocol) {
    return Kind::Pth;
  }
  return not_a_checkpoint(file);
}

// The vocabulary of a GGUF file, if a tokenizer can be made of it.
Result<Vocabulary> readable_vocabulary(const GgufMetadata& metadata) {
  RWKV_ASSIGN(Vocabulary vocabulary, vocabulary_from_metadata(metadata));
  RWKV_TRY(make_tokenizer(vocabulary).status());
  return vocabulary;
}

Result<Checkpoint> open_gguf(std::shared_ptr<InputFile> input) {
  Checkpoint checkpoint;
  RWKV_ASSIGN(const auto mapping, MappedFile::open(input->path()));
  RWKV_ASSIGN(const GgufFile file, GgufFile::parse(mapping->bytes(), input->path()));
  // What is not RWKV is refused for that, not for its vocabulary.
  const auto architecture = file.metadata().get_string("general.architecture");
  if (!is_packed(file) && architecture.ok() && !is_llama_cpp_rwkv(architecture.value())) {
    return bad_input("{}: {}", input->path(), refused_architecture(architecture.value()));
  }
  if (has_vocabulary(file.metadata())) {
    auto vocabulary = readable_vocabulary(file.metadata());
    if (vocabulary.ok()) {
      checkpoint.vocabulary = vocabulary.take();
    } else {
      checkpoint.vocabulary_problem =
          vocabulary.status().in(input->path() + ": its vocabulary").message();
    }
  }
  if (!is_packed(file)) {
    RWKV_ASSIGN(checkpoint.source, open_llama_cpp_gguf(input->path()));
    return checkpoint;
  }
  checkpoint.is_packed = true;
  if (const auto name = file.metadata().get_string(keys::kChatTemplate); name.ok()) {
    checkpoint.chat_template = name.value();
  }
  RWKV_ASSIGN(const std::vector<PackedTensor> tensors, packed_tensors(file));
  for (const PackedTensor& tensor : tensors) {
    checkpoint.is_quantized |= codec_traits(tensor.codec).is_lossy;
  }
  RWKV_ASSIGN(checkpoint.source, open_packed(std::move(input), file));
  return checkpoint;
}

Result<std::unique_ptr<TensorSource>> open_part(const std::string& path) {
  RWKV_ASSIGN(const std::shared_ptr<InputFile> input, InputFile::open(path));
  RWKV_ASSIGN(const Kind kind, tell_kind(*input));
  switch (kind) {
    case Kind::Pth:
      return open_pth(path);
    case Kind::Safetensors:
      return open_safetensors(path);
    case Kind::RwkvCpp:
    case Kind::Gguf:
      break;
  }
  return bad_input(
      "{}: expected a part of a checkpoint, .safetensors or .pth, found another "
      "format; name the file alone",
      path);
}

Result<std::unique_ptr<TensorSource>> open_parts(const CheckpointFiles& files) {
  std::vector<std::unique_ptr<TensorSource>> parts;
  for (const std::string& file : files.files) {
    RWKV_ASSIGN(std::unique_ptr<TensorSource> part, open_part(file));
    parts.push_back(std::move(part));
  }
  if (parts.size() == 1 && files.tensors_of.empty()) {
    return std::move(parts.front());
  }
  return join_parts(std::move(parts), files);
}

// config.json belongs to a checkpoint that Hugging Face's programs wrote: a collection, or names of
// theirs. Next to a single plain file it may belong to anything.
Result<std::optional<HfConfig>> find_config(const CheckpointFiles& files, const PlainNames& names) {
  const fs::path path = fs::path(files.folder) / kConfigName;
  const bool is_theirs = files.is_collection || (names.dialect && !names.dialect->prefix.empty());
  std::error_code ignored;
  if (!is_theirs || !fs::is_regular_file(path, ignored)) {
    return std::optional<HfConfig>();
  }
  RWKV_ASSIGN(HfConfig config, read_hf_config(path.string()));
  return std::optional<HfConfig>(std::move(config));
}

// Puts BlinkDL's names in the place of others, and remembers config.json for identification.
Status take_plain_names(const CheckpointFiles& files, Checkpoint& checkpoint) {
  NameOptions options;
  options.square_is_plain = checkpoint.source->format() != "safetensors";
  const auto find = [&]() -> Result<PlainNames> {
    auto names = find_plain_names(checkpoint.source->tensors(), options);
    return names.ok() ? std::move(names) : Result<PlainNames>(names.status().in(files.path));
  };
  RWKV_ASSIGN(PlainNames names, find());
  RWKV_ASSIGN(const std::optional<HfConfig> config, find_config(files, names));
  if (config && config->is_tied) {
    options.tied_head = true;
    RWKV_ASSIGN(names, find());
  }
  checkpoint.notes.insert(checkpoint.notes.end(), names.notes.begin(), names.notes.end());
  std::map<std::string, std::string> extra;
  if (config) {
    extra.emplace(kConfigName, config->path);
    checkpoint.notes.push_back(fmt::format("settings of {}", config->path));
  }
  if (names.is_changed || config) {
    checkpoint.source =
        make_plain_source(std::move(checkpoint.source), std::move(names), std::move(extra));
  }
  return {};
}

// Settings that a file gives and its tensors do not show.
Status apply_settings(const TensorSource& source, ModelConfig& config) {
  const std::map<std::string, std::string> metadata = source.metadata();
  // A packed file records the form of its pairs, and its linear pairs may have a diagonal.
  const auto form = metadata.find("rwkv.low_rank");
  if (form != metadata.end() && form->second == low_rank_form_name(LowRankForm::Linear)) {
    config.low_rank = LowRankForm::Linear;
  }
  if (const auto eps = metadata.find(kGroupNormEps);
      source.format() == "packed" && eps != metadata.end()) {
    config.group_norm_eps = std::strtof(eps->second.c_str(), nullptr);
  }
  // rwkv.cpp's models with heads of other sizes come from code that does not divide before the
  // norm; its expected logits fix the value.
  const bool is_v5 = config.version == Version::V5_0 || config.version == Version::V5_1 ||
                     config.version == Version::V5_2;
  if (source.format() == "rwkv.cpp" && is_v5 && config.head_size != 64) {
    config.group_norm_eps = 1e-5f;
  }
  if (const auto path = metadata.find(kConfigName); path != metadata.end()) {
    RWKV_ASSIGN(const HfConfig said, read_hf_config(path->second));
    RWKV_TRY(apply_hf_config(said, config));
  }
  return {};
}

}  // namespace

Result<Checkpoint> open_checkpoint(const std::string& path) {
  RWKV_ASSIGN(CheckpointFiles files, find_checkpoint_files(path));
  RWKV_ASSIGN(std::shared_ptr<InputFile> input, InputFile::open(files.files.front()));
  RWKV_ASSIGN(const Kind kind, tell_kind(*input));
  Checkpoint checkpoint;
  switch (kind) {
    case Kind::Pth:
    case Kind::Safetensors: {
      RWKV_ASSIGN(checkpoint.source, open_parts(files));
      checkpoint.notes = std::move(files.notes);
      RWKV_TRY(take_plain_names(files, checkpoint));
      return checkpoint;
    }
    case Kind::RwkvCpp: {
      RWKV_ASSIGN(checkpoint.source, open_rwkv_cpp(files.files.front()));
      break;
    }
    case Kind::Gguf: {
      RWKV_ASSIGN(checkpoint, open_gguf(std::move(input)));
      break;
    }
  }
  checkpoint.notes = std::move(files.notes);
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
    const auto other = other_model(source);
    return other ? bad_input("{}: {}", source.path(), *other) : model.status().in(source.path());
  }
  RWKV_TRY(apply_settings(source, model.value().config));
  for (const TensorBinding& binding : model.value().tensors) {
    const TensorInfo& info = source.tensors()[binding.source];
    if (!traits(info.dtype).is_float && traits(info.dtype).block == 1) {
      return bad_input(
          "{}: tensor '{}': expected floats, found {}; take a checkpoint in bf16, f16 or f32",
          source.path(), info.name, traits(info.dtype).name);
    }
  }
  return model;
}

}  // namespace rwkv::press
