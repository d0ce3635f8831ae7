#include "compressor/checkpoint/checkpoint_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <optional>

#include "compressor/checkpoint/json_file.h"
#include "formats/base/checksum.h"
#include "formats/base/damaged.h"
#include "formats/base/file.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxIndexBytes = uint64_t{16} << 20;
constexpr uint64_t kMaxParts = 4096;
constexpr std::string_view kIndexEnd = ".index.json";
// Names that Hugging Face gives, the better format first.
constexpr std::array kIndexNames = {"model.safetensors.index.json", "pytorch_model.bin.index.json"};
constexpr std::array kWholeNames = {"model.safetensors", "pytorch_model.bin"};
constexpr std::array<std::string_view, 7> kEndings = {".safetensors", ".st",   ".pth", ".pt",
                                                      ".ckpt",        ".gguf", ".bin"};
// Files of trainings and adapters that end like checkpoints.
constexpr std::array<std::string_view, 8> kOtherNames = {
    "optimizer", "scheduler", "training_args", "rng_state",
    "adapter_",  "scaler",    "random_states", "zero_pp_rank"};

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// "model-00002-of-00005.safetensors".
struct PartName {
  std::string stem;
  std::string ending;
  uint64_t number = 0;
  uint64_t n = 0;

  std::string name(uint64_t i) const {
    return fmt::format("{}-{:05}-of-{:05}{}", stem, i, n, ending);
  }
};

std::optional<PartName> part_name(const std::string& name) {
  constexpr size_t kDigits = 5;
  constexpr std::string_view kOf = "-of-";
  const size_t of = name.rfind(kOf);
  if (of == std::string::npos || of < kDigits + 1 || name[of - kDigits - 1] != '-' ||
      name.size() < of + kOf.size() + kDigits) {
    return std::nullopt;
  }
  PartName part;
  const auto number = [&](size_t at, uint64_t& value) {
    const char* begin = name.data() + at;
    const auto [end, error] = std::from_chars(begin, begin + kDigits, value);
    return error == std::errc() && end == begin + kDigits;
  };
  if (!number(of - kDigits, part.number) || !number(of + kOf.size(), part.n) || part.number == 0 ||
      part.number > part.n || part.n > kMaxParts) {
    return std::nullopt;
  }
  part.stem = name.substr(0, of - kDigits - 1);
  part.ending = name.substr(of + kOf.size() + kDigits);
  return part;
}

// A name in an index must stay in its folder.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
         });
}

Result<CheckpointFiles> files_of_index(const fs::path& index) {
  CheckpointFiles found;
  found.path = index.string();
  found.folder = index.parent_path().string();
  found.is_collection = true;
  RWKV_ASSIGN(const nlohmann::json json, read_json_file(found.path, kMaxIndexBytes));
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object() || map->empty()) {
    return bad_input("{}: expected an index with a weight_map, found none; name the checkpoint",
                     found.path);
  }
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
      return bad_input(
          "{}: weight_map: expected the name of a file in the same folder for '{}', found "
          "something else; fetch the index again",
          found.path, tensor.substr(0, 100));
    }
    found.tensors_of[file.get<std::string>()].push_back(tensor);
  }
  if (found.tensors_of.size() > kMaxParts) {
    return damaged("{}: names {} files, at most {} are accepted", found.path,
                   found.tensors_of.size(), kMaxParts);
  }
  for (const auto& [name, tensors] : found.tensors_of) {
    const fs::path file = index.parent_path() / name;
    if (!is_file(file)) {
      return bad_input(
          "{}: expected '{}' next to it, which holds {} of the tensors, found no such file; fetch "
          "it too",
          found.path, name, tensors.size());
    }
    found.files.push_back(file.string());
  }
  return found;
}

Result<CheckpointFiles> files_of_parts(const fs::path& folder, const PartName& part) {
  const fs::path index = folder / (part.stem + part.ending + std::string(kIndexEnd));
  if (is_file(index)) {
    RWKV_ASSIGN(CheckpointFiles found, files_of_index(index));
    found.notes.push_back(fmt::format("one of {} parts: took the index {}", found.files.size(),
                                      index.filename().string()));
    return found;
  }
  CheckpointFiles found;
  found.path = (folder / part.name(1)).string();
  found.folder = folder.string();
  found.is_collection = true;
  for (uint64_t i = 1; i <= part.n; ++i) {
    const fs::path file = folder / part.name(i);
    if (!is_file(file)) {
      return bad_input(
          "{}: is part {} of {}; expected '{}' next to it, found no such file; fetch all parts",
          (folder / part.name(part.number)).string(), part.number, part.n, part.name(i));
    }
    found.files.push_back(file.string());
  }
  if (part.n > 1) {
    found.notes.push_back(fmt::format("one of {} parts without an index: took all", part.n));
  }
  return found;
}

CheckpointFiles single(const fs::path& path) {
  CheckpointFiles found;
  found.path = path.string();
  found.folder = path.parent_path().string();
  found.files = {found.path};
  return found;
}

bool looks_like_checkpoint(const std::string& name) {
  const auto begins = [&](std::string_view other) { return name.starts_with(other); };
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  return std::any_of(kEndings.begin(), kEndings.end(), ends) &&
         std::none_of(kOtherNames.begin(), kOtherNames.end(), begins);
}

// A few names for a message.
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kMost = 4;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  return names.size() > kMost ? text + ", ..." : text;
}

Status no_checkpoint_in(const fs::path& folder, const std::vector<std::string>& names) {
  const auto has = [&](std::string_view begin) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return name.starts_with(begin); });
  };
  if (has("adapter_")) {
    return bad_input(
        "{}: is a folder with an adapter alone; expected the model that it belongs to; merge it: "
        "convert BASE --merge ADAPTER",
        folder.string());
  }
  if (has("zero_pp_rank") || has("latest") || has("zero_to_fp32")) {
    return bad_input(
        "{}: is a checkpoint of DeepSpeed in many files; expected one with all weights; gather "
        "them first with its zero_to_fp32.py",
        folder.string());
  }
  return bad_input(
      "{}: is a folder, expected a checkpoint in it (.safetensors, .pth, .bin, .gguf), found {}; "
      "name the checkpoint",
      folder.string(), names.empty() ? "nothing" : some_of(names));
}

Result<CheckpointFiles> files_of_folder(const fs::path& folder) {
  for (const char* name : kIndexNames) {
    if (is_file(folder / name)) {
      return files_of_index(folder / name);
    }
  }
  for (const char* name : kWholeNames) {
    if (is_file(folder / name)) {
      return single(folder / name);
    }
  }
  std::vector<std::string> names;
  std::vector<std::string> candidates;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    names.push_back(entry.path().filename().string());
  }
  if (error) {
    return failed("{}: cannot list the folder: {}", folder.string(), error.message());
  }
  std::sort(names.begin(), names.end());
  std::optional<PartName> part;
  for (const std::string& name : names) {
    if (!is_file(folder / name)) {
      continue;
    }
    if (name.ends_with(kIndexEnd)) {
      return files_of_index(folder / name);
    }
    if (!looks_like_checkpoint(name)) {
      continue;
    }
    // The parts of one checkpoint count as one.
    const auto this_part = part_name(name);
    if (this_part && part && part->stem == this_part->stem) {
      continue;
    }
    part = this_part ? this_part : part;
    candidates.push_back(name);
  }
  if (candidates.empty()) {
    return no_checkpoint_in(folder, names);
  }
  if (candidates.size() > 1) {
    return bad_input("{}: holds {} checkpoints ({}); expected one; name the one to use",
                     folder.string(), candidates.size(), some_of(candidates));
  }
  return find_checkpoint_files((folder / candidates[0]).string());
}

// An index, whatever its name: JSON that is no safetensors header.
Result<bool> begins_like_json(const fs::path& path) {
  RWKV_ASSIGN(const auto file, InputFile::open(path.string()));
  if (file->size() == 0 || file->size() > kMaxIndexBytes) {
    return false;
  }
  std::array<std::byte, 1> first{};
  RWKV_TRY(file->read_at(0, first));
  return first[0] == std::byte{'{'};
}

}  // namespace

Result<CheckpointFiles> find_checkpoint_files(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    fs::path folder = fs::path(path).lexically_normal();
    folder = folder.has_filename() ? folder : folder.parent_path();
    RWKV_ASSIGN(CheckpointFiles found, files_of_folder(folder));
    found.is_collection = true;
    found.notes.insert(found.notes.begin(),
                       fmt::format("a folder: took {}", fs::path(found.path).filename().string()));
    return found;
  }
  const fs::path file(path);
  if (file.filename().string().ends_with(kIndexEnd) && is_file(file)) {
    return files_of_index(file);
  }
  if (const auto part = part_name(file.filename().string()); part && is_file(file)) {
    return files_of_parts(file.parent_path(), *part);
  }
  RWKV_ASSIGN(const bool may_be_index, begins_like_json(file));
  if (may_be_index) {
    const auto json = read_json_file(path, kMaxIndexBytes);
    if (json.ok() && json.value().contains("weight_map")) {
      return files_of_index(file);
    }
  }
  return single(file);
}

Result<uint64_t> checkpoint_xxh64(const std::string& path) {
  RWKV_ASSIGN(const CheckpointFiles found, find_checkpoint_files(path));
  if (found.files.size() == 1) {
    return file_xxh64(found.files.front());
  }
  std::string all;
  for (const std::string& file : found.files) {
    RWKV_ASSIGN(const uint64_t hash, file_xxh64(file));
    all += fmt::format("{:016x}", hash);
  }
  return xxh64(std::as_bytes(std::span(all)));
}

Result<uint64_t> checkpoint_bytes(const std::string& path) {
  RWKV_ASSIGN(const CheckpointFiles found, find_checkpoint_files(path));
  uint64_t bytes = 0;
  for (const std::string& file : found.files) {
    RWKV_ASSIGN(const std::shared_ptr<InputFile> input, InputFile::open(file));
    bytes += input->size();
  }
  return bytes;
}

Result<std::string> checkpoint_name(const std::string& path) {
  RWKV_ASSIGN(const CheckpointFiles found, find_checkpoint_files(path));
  if (found.is_collection) {
    std::error_code ignored;
    const fs::path folder = fs::absolute(found.folder, ignored).lexically_normal();
    return (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  }
  return fs::path(path).stem().string();
}

}  // namespace rwkv::press
