#include "compressor/checkpoint/pth_source.h"

#include <cstring>
#include <new>

#include "compressor/checkpoint/strided_read.h"

namespace rwkv::press {
namespace {

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
    if (is_contiguous(place.view) || storages_->has_random_access(place.storage)) {
      return read_strided(place.view, offset, out, [&](uint64_t at, std::span<std::byte> part) {
        return storages_->read(place.storage, at, part);
      });
    }
    // A walk over a deflated storage would start it over for each step, so it is unpacked once.
    std::vector<std::byte> storage;
    RWKV_TRY(resize(storage, place.storage_bytes, path_));
    RWKV_TRY(storages_->read(place.storage, 0, storage));
    return read_strided(place.view, offset, out, [&](uint64_t at, std::span<std::byte> part) {
      std::memcpy(part.data(), storage.data() + at, part.size());
      return Status();
    });
  }

  std::string path_;
  std::unique_ptr<StorageFile> storages_;
  std::vector<TensorInfo> infos_;
  std::vector<Place> places_;
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
  return std::unique_ptr<TensorSource>(std::move(source));
}

}  // namespace rwkv::press
