#include "compressor/checkpoint/pth_legacy.h"

#include <array>
#include <unordered_map>

#include "compressor/checkpoint/pth_source.h"
#include "compressor/checkpoint/state_dict.h"
#include "compressor/checkpoint/unpickler.h"
#include "formats/base/damaged.h"
#include "formats/base/little_endian.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

using Kind = PickleValue::Kind;

// 0x1950a86a20f9469cfc6c, torch.serialization.MAGIC_NUMBER, as stored in the pickle.
constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
constexpr int64_t kProtocolVersion = 1001;

struct Storage {
  uint64_t offset;
  uint64_t bytes;
};

class LegacyStorages : public StorageFile {
 public:
  explicit LegacyStorages(std::shared_ptr<InputFile> file) : file_(std::move(file)) {}

  // The next storage starts at `offset`, with its count; afterwards `offset` is its end.
  Status add(const std::string& key, const StorageClaim& claim, uint64_t& offset) {
    std::array<std::byte, 8> count_bytes{};
    RWKV_TRY(file_->read_at(offset, count_bytes));
    offset += count_bytes.size();
    const auto count = load_le<uint64_t>(count_bytes.data());
    if (count != claim.elements) {
      return damaged("{}: storage {} should have {} elements, it has {}", file_->path(),
                     printable(key), claim.elements, count);
    }
    if (claim.bytes > file_->size() - offset) {
      return bad_input(
          "{}: storage {} should have {} bytes, but the file has {} left; it is truncated, fetch "
          "it again",
          file_->path(), printable(key), claim.bytes, file_->size() - offset);
    }
    if (!by_key_.emplace(key, storages_.size()).second) {
      return damaged("{}: storage {} occurs twice", file_->path(), printable(key));
    }
    storages_.push_back({offset, claim.bytes});
    offset += claim.bytes;
    return {};
  }

  Result<size_t> find(const std::string& key, uint64_t bytes) const override {
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) {
      return damaged("storage {} is missing", printable(key));
    }
    if (storages_[found->second].bytes != bytes) {
      return damaged("storage {} should have {} bytes, it has {}", printable(key), bytes,
                     storages_[found->second].bytes);
    }
    return found->second;
  }

  bool has_random_access(size_t) const override { return true; }

  Status read(size_t storage, uint64_t offset, std::span<std::byte> out) const override {
    const Storage& place = storages_[storage];
    if (offset > place.bytes || out.size() > place.bytes - offset) {
      return damaged("{}: expected {} bytes at {} of a storage of {} bytes", file_->path(),
                     out.size(), offset, place.bytes);
    }
    return file_->read_at(place.offset + offset, out);
  }

 private:
  std::shared_ptr<InputFile> file_;
  std::unordered_map<std::string, size_t> by_key_;
  std::vector<Storage> storages_;
};

Status check_system(PickleInput& input, uint64_t file_bytes, const std::string& path) {
  RWKV_ASSIGN(const Pickle magic, unpickle(input, file_bytes));
  if (magic.root->kind != Kind::BigInt || magic.root->text != kMagic) {
    return bad_input(
        "{}: expected a PyTorch checkpoint, found a pickle without PyTorch's magic number; save "
        "the weights alone: torch.save(model.state_dict(), FILE)",
        path);
  }
  RWKV_ASSIGN(const Pickle version, unpickle(input, file_bytes));
  if (version.root->kind != Kind::Int || version.root->integer != kProtocolVersion) {
    return damaged("{}: the protocol version is not {}", path, kProtocolVersion);
  }
  RWKV_ASSIGN(const Pickle system, unpickle(input, file_bytes));
  const std::vector<const PickleValue*>& items = system.root->items;
  for (size_t i = 0; system.root->kind == Kind::Dict && i + 1 < items.size(); i += 2) {
    if (items[i]->kind == Kind::String && items[i]->text == "little_endian") {
      return items[i + 1]->kind == Kind::Bool && items[i + 1]->integer == 1
                 ? Status()
                 : bad_input("{}: is big endian; save it on a little-endian machine", path);
    }
  }
  return damaged("{}: does not say its byte order", path);
}

// What the pickle of the object says about each storage, by key: the elements on disk have no type.
Result<std::unordered_map<std::string, StorageClaim>> read_claims(const PickleArena& arena,
                                                                  const std::string& path) {
  std::unordered_map<std::string, StorageClaim> claims;
  for (const PickleValue& value : arena.values()) {
    if (value.kind != Kind::Storage) {
      continue;
    }
    const Result<StorageClaim> claim = storage_claim(value);
    if (!claim.ok()) {
      return claim.status().in(path);
    }
    const auto [place, is_new] = claims.emplace(value.text, claim.value());
    if (!is_new && (place->second.elements != claim.value().elements ||
                    place->second.element_bytes != claim.value().element_bytes)) {
      return damaged("{}: storage {} has two sizes", path, printable(value.text));
    }
  }
  return claims;
}

// `input` is at the end of the object. The order of the storages follows, then the storages.
Result<std::unique_ptr<LegacyStorages>> read_storages(
    PickleInput& input, const std::shared_ptr<InputFile>& file,
    const std::unordered_map<std::string, StorageClaim>& claims) {
  RWKV_ASSIGN(const Pickle keys, unpickle(input, file->size()));
  if (keys.root->kind != Kind::List) {
    return damaged("{}: expected a list of storage keys, found a {}", file->path(),
                   kind_name(keys.root->kind));
  }
  auto storages = std::make_unique<LegacyStorages>(file);
  uint64_t offset = input.position();
  for (const PickleValue* key : keys.root->items) {
    const auto claim = claims.find(key->text);
    if (key->kind != Kind::String || claim == claims.end()) {
      return damaged("{}: storage {} belongs to no tensor", file->path(), printable(key->text));
    }
    RWKV_TRY(storages->add(key->text, claim->second, offset));
  }
  if (offset != file->size()) {
    return damaged("{}: {} bytes after the last storage", file->path(), file->size() - offset);
  }
  return storages;
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_legacy_pth(std::shared_ptr<InputFile> file) {
  const std::string path = file->path();
  PickleInput input(file, path);
  const uint64_t file_bytes = file->size();
  RWKV_TRY(check_system(input, file_bytes, path));
  RWKV_ASSIGN(const Pickle object, unpickle(input, file_bytes));
  RWKV_ASSIGN(std::vector<StoredTensor> tensors, read_state_dict(*object.root, path));
  RWKV_ASSIGN(const auto claims, read_claims(object.arena, path));
  RWKV_ASSIGN(std::unique_ptr<StorageFile> storages, read_storages(input, file, claims));
  return make_pth_source(path, std::move(storages), std::move(tensors));
}

}  // namespace rwkv::press
