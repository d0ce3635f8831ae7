#include "formats/container/llama_cpp_reader.h"

#include "formats/base/file.h"
#include "formats/container/adapted_source.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/llama_cpp_names.h"

namespace rwkv {
namespace {

// Only the header of the mapping is touched; tensor data is read from the file on request.
Result<GgufFile> parse_header(const std::string& path) {
  RWKV_ASSIGN(const std::shared_ptr<MappedFile> mapping, MappedFile::open(path));
  return GgufFile::parse(mapping->bytes(), path);
}

Result<LlamaCppModel> model_sizes(const GgufMetadata& metadata, const std::string& architecture) {
  LlamaCppModel model;
  model.architecture = architecture;
  RWKV_ASSIGN(model.n_embd, metadata.get_u64(architecture + ".embedding_length"));
  RWKV_ASSIGN(model.head_size, metadata.get_u64(architecture + ".wkv.head_size"));
  const std::string rescale_key = architecture + ".rescale_every_n_layers";
  if (metadata.contains(rescale_key)) {
    RWKV_ASSIGN(model.rescale_every, metadata.get_u64(rescale_key));
  }
  if (model.n_embd == 0 || model.head_size == 0 || model.n_embd % model.head_size != 0) {
    return bad_input(
        "embedding_length {} is not a multiple of wkv.head_size {}; take the original .pth",
        model.n_embd, model.head_size);
  }
  return model;
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_llama_cpp_gguf(const std::string& path) {
  RWKV_ASSIGN(const GgufFile gguf, parse_header(path));
  const Result<std::string> architecture = gguf.metadata().get_string("general.architecture");
  RWKV_TRY(architecture.status().in(path));
  if (!is_llama_cpp_rwkv(architecture.value())) {
    return bad_input("{}: {}", path, refused_architecture(architecture.value()));
  }
  const Result<LlamaCppModel> model = model_sizes(gguf.metadata(), architecture.value());
  RWKV_TRY(model.status().in(path));
  Result<std::vector<AdaptedTensor>> adapted =
      undo_llama_cpp_conversion(gguf.tensors(), model.value());
  RWKV_TRY(adapted.status().in(path));
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : gguf.metadata().entries()) {
    metadata.emplace(key, value_to_string(value));
  }
  RWKV_ASSIGN(std::shared_ptr<InputFile> file, InputFile::open(path));
  return open_adapted("gguf", std::move(file), adapted.take(), std::move(metadata));
}

}  // namespace rwkv
