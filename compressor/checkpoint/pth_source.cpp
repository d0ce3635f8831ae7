#include "compressor/checkpoint/pth_source.h"

#include <cstring>
#include <mutex>
#include <new>
#include <unordered_map>
#include <unordered_set>

#include "compressor/checkpoint/strided_read.h"
#include "formats/base/damaged.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

// Bytes of compressed storages that are kept unpacked, as long as the file is open.
constexpr uint64_t kMaxUnpacked = uint64_t{256} << 20;
// Times that the tensors of a file may name what its storages hold: tied weights name it twice.
constexpr uint64_t kMaxShare = 4;

// resize() to a size from the file. It is no larger than the data that the file contains or expands
// to, but that may still be more than this machine has.
Status resize(std::vector<std::byte>& bytes, uint64_t n, const std::string& path) {
  try {
    bytes.resize(static_cast<size_t>(n));
  } catch (const std::bad_alloc&) {
    return failed("{}: not enough memory for a tensor of {} bytes", path, n);
  }
  return {};
}

class PthSource : public TensorSource {
 public:
  struct Place {
    size_t storage;
    uint64_t storage_bytes;
    StridedView view;
  };

  PthSource(std::string path, std::unique_ptr<StorageFile> storages)
      : path_(std::move(path)), storages_(std::move(storages)) {}

  Status add(StoredTensor tensor) {
    RWKV_ASSIGN(const size_t storage, storages_->find(tensor.storage_key, tensor.storage_bytes));
    places_.push_back({storage, tensor.storage_bytes,
                       StridedView{tensor.offset, traits(tensor.info.dtype).block_bytes,
                                   tensor.info.shape, std::move(tensor.strides)}});
    infos_.push_back(std::move(tensor.info));
    return {};
  }

  // What reading every tensor once takes must not be far more than what the file holds: a few bytes
  // of pickle can name all of a storage, or its end, any number of times.
  Status check_work() {
    std::unordered_map<size_t, uint64_t> n_tensors;
    uint64_t held = 0;
    uint64_t named = 0;
    for (size_t i = 0; i < places_.size(); ++i) {
      const Place& place = places_[i];
      held += n_tensors[place.storage]++ == 0 ? place.storage_bytes : 0;
      named += infos_[i].n_bytes();
    }
    if (named > kMaxShare * held + kMaxUnpacked) {
      return damaged(
          "{}: its {} tensors have {} bytes in all, their storages {}, at most {} times as many "
          "are accepted",
          path_, places_.size(), named, held, kMaxShare);
    }
    uint64_t unpacked = 0;
    for (const Place& place : places_) {
      const bool is_whole_walk = is_contiguous(place.view) && n_tensors[place.storage] == 1;
      if (!storages_->has_random_access(place.storage) && !is_whole_walk &&
          shared_.insert(place.storage).second) {
        unpacked += place.storage_bytes;
      }
    }
    if (unpacked > kMaxUnpacked) {
      return bad_input(
          "{}: several tensors share compressed storages of {} bytes, at most {} are unpacked; "
          "save the file without compression: unzip it, and zip it again with zip -0",
          path_, unpacked, kMaxUnpacked);
    }
    return {};
  }

  std::string_view format() const override { return "pth"; }
  const std::string& path() const override { return path_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }

  Status read(size_t index, std::vector<std::byte>& out) const override {
    RWKV_TRY(check_index(index));
    RWKV_TRY(resize(out, infos_[index].n_bytes(), path_));
    return read_range(index, 0, out);
  }

  Status read_range(size_t index, uint64_t offset, std::span<std::byte> out) const override {
    RWKV_TRY(check_index(index));
    const TensorInfo& info = infos_[index];
    if (offset > info.n_bytes() || out.size() > info.n_bytes() - offset) {
      return usage_error("{}: tensor '{}': expected {} bytes at {}, but it has {}", path_,
                         info.name, out.size(), offset, info.n_bytes());
    }
    return read_place(places_[index], offset, out).in(fmt::format("tensor '{}'", info.name));
  }

 private:
  Status check_index(size_t index) const {
    return index < infos_.size() ? Status()
                                 : usage_error("{}: expected tensor number {}, but there are {}",
                                               path_, index, infos_.size());
  }

  Status read_place(const Place& place, uint64_t offset, std::span<std::byte> out) const {
    if (storages_->has_random_access(place.storage) || !shared_.contains(place.storage)) {
      return read_strided(place.view, offset, out, [&](uint64_t at, std::span<std::byte> part) {
        return storages_->read(place.storage, at, part);
      });
    }
    RWKV_ASSIGN(const std::vector<std::byte>* storage, unpacked(place));
    return read_strided(place.view, offset, out, [&](uint64_t at, std::span<std::byte> part) {
      std::memcpy(part.data(), storage->data() + at, part.size());
      return Status();
    });
  }

  // A deflated storage that is read in other ways than once from its beginning to its end: every
  // read would start it over, so it is unpacked once and kept. check_work() bounds the memory.
  Result<const std::vector<std::byte>*> unpacked(const Place& place) const {
    const std::lock_guard lock(unpacked_mutex_);
    std::vector<std::byte>& storage = unpacked_[place.storage];
    if (storage.empty()) {
      std::vector<std::byte> bytes;
      RWKV_TRY(resize(bytes, place.storage_bytes, path_));
      RWKV_TRY(storages_->read(place.storage, 0, bytes));
      storage = std::move(bytes);
    }
    return &storage;
  }

  std::string path_;
  std::unique_ptr<StorageFile> storages_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
  std::unordered_set<size_t> shared_;  // storages that are unpacked whole
  mutable std::mutex unpacked_mutex_;
  mutable std::unordered_map<size_t, std::vector<std::byte>> unpacked_;
};

}  // namespace

Result<std::unique_ptr<TensorSource>> make_pth_source(const std::string& path,
                                                      std::unique_ptr<StorageFile> storages,
                                                      std::vector<StoredTensor> tensors) {
  auto source = std::make_unique<PthSource>(path, std::move(storages));
  for (StoredTensor& tensor : tensors) {
    const std::string context = fmt::format("{}: tensor '{}'", path, printable(tensor.info.name));
    if (const Status status = source->add(std::move(tensor)); !status.ok()) {
      return status.in(context);
    }
  }
  RWKV_TRY(source->check_work());
  return std::unique_ptr<TensorSource>(std::move(source));
}

}  // namespace rwkv::press
