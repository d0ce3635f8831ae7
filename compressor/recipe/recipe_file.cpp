#include "compressor/recipe/recipe_file.h"

#include <array>
#include <filesystem>

#include "formats/base/file.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/packed_keys.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kMaxRecipeBytes = uint64_t{1} << 20;

Result<bool> is_gguf(const std::string& path) {
  std::error_code error;
  std::array<std::byte, 4> magic{};
  // A pipe gives its bytes only once.
  if (!std::filesystem::is_regular_file(path, error)) {
    return false;
  }
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  if (file->size() < magic.size()) {
    return false;
  }
  RWKV_TRY(file->read_at(0, magic));
  return looks_like_gguf(magic);
}

}  // namespace

Result<RecipeText> read_recipe_file(const std::string& path) {
  RWKV_ASSIGN(const bool is_packed, is_gguf(path));
  if (!is_packed) {
    RWKV_ASSIGN(std::string yaml, read_text_file(path, kMaxRecipeBytes));
    return RecipeText{std::move(yaml), path};
  }
  RWKV_ASSIGN(const auto file, MappedFile::open(path));
  RWKV_ASSIGN(const GgufFile gguf, GgufFile::parse(file->bytes(), path));
  if (!gguf.metadata().contains(keys::kRecipe)) {
    return bad_input("{}: holds no recipe ({}); expected YAML, or a file made by convert", path,
                     keys::kRecipe);
  }
  auto yaml = gguf.metadata().get_string(keys::kRecipe);
  RWKV_TRY(yaml.status().in(path));
  if (yaml.value().size() > kMaxRecipeBytes) {
    return bad_input("{}: its recipe has {} bytes; expected at most {}", path, yaml.value().size(),
                     kMaxRecipeBytes);
  }
  return RecipeText{yaml.take(), path + " (the recipe in this packed file)"};
}

}  // namespace rwkv::press
