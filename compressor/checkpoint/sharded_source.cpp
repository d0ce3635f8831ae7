#include "compressor/checkpoint/sharded_source.h"

#include <filesystem>
#include <unordered_map>
#include <unordered_set>

namespace rwkv::press {
namespace {

class ShardedSource final : public TensorSource {
 public:
  ShardedSource(std::string path, std::vector<std::unique_ptr<TensorSource>> parts)
      : path_(std::move(path)), parts_(std::move(parts)) {
    for (size_t part = 0; part < parts_.size(); ++part) {
      for (size_t i = 0; i < parts_[part]->tensors().size(); ++i) {
        infos_.push_back(parts_[part]->tensors()[i]);
        places_.push_back({part, i});
      }
    }
  }

  std::string_view format() const override { return parts_.front()->format(); }
  const std::string& path() const override { return path_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::map<std::string, std::string> metadata() const override {
    return parts_.front()->metadata();
  }
  Status read(size_t index, std::vector<std::byte>& out) const override {
    return parts_[places_[index].part]->read(places_[index].index, out);
  }
  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override {
    return parts_[places_[index].part]->read_range(places_[index].index, offset, out);
  }

 private:
  struct Place {
    size_t part;
    size_t index;
  };
  std::string path_;
  std::vector<std::unique_ptr<TensorSource>> parts_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
};

// The index must list the tensors of `part`, no more and no fewer.
Status check_part(const TensorSource& part, const std::vector<std::string>& listed,
                  const std::string& index) {
  const std::unordered_set<std::string_view> names(listed.begin(), listed.end());
  for (const TensorInfo& tensor : part.tensors()) {
    if (!names.contains(tensor.name)) {
      return bad_input("{}: holds '{}', which {} does not list for it; fetch both again",
                       part.path(), tensor.name, index);
    }
  }
  std::unordered_set<std::string_view> found;
  for (const TensorInfo& tensor : part.tensors()) {
    found.insert(tensor.name);
  }
  for (const std::string& name : listed) {
    if (!found.contains(name)) {
      return bad_input(
          "{}: expected '{}', which {} lists for it, found no such tensor; fetch "
          "both again",
          part.path(), name, index);
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<TensorSource>> join_parts(std::vector<std::unique_ptr<TensorSource>> parts,
                                                 const CheckpointFiles& files) {
  std::unordered_map<std::string_view, const TensorSource*> seen;
  for (const auto& part : parts) {
    for (const TensorInfo& tensor : part->tensors()) {
      const auto [earlier, is_new] = seen.emplace(tensor.name, part.get());
      if (!is_new) {
        return bad_input(
            "{}: tensor '{}' is in {} too: these are not parts of one checkpoint; fetch all parts "
            "again",
            part->path(), tensor.name, earlier->second->path());
      }
    }
    const std::string name = std::filesystem::path(part->path()).filename().string();
    if (const auto listed = files.tensors_of.find(name); listed != files.tensors_of.end()) {
      RWKV_TRY(check_part(*part, listed->second, files.path));
    }
  }
  return std::unique_ptr<TensorSource>(
      std::make_unique<ShardedSource>(files.path, std::move(parts)));
}

}  // namespace rwkv::press
