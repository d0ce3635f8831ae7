#include "compressor/checkpoint/pth_reader.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "compressor/checkpoint/pth_legacy.h"
#include "compressor/checkpoint/pth_source.h"
#include "compressor/checkpoint/state_dict.h"
#include "compressor/checkpoint/unpickler.h"
#include "compressor/checkpoint/zip_archive.h"
#include "formats/base/damaged.h"
#include "formats/base/file.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

constexpr std::string_view kPickleName = "data.pkl";
constexpr uint64_t kMaxByteOrderBytes = 64;

// A deflated pickle may be larger than its file, but not by much.
uint64_t most_pickle_bytes(uint64_t file_bytes) {
  return std::min(kMaxPickleBytes, (uint64_t{1} << 20) + 4 * file_bytes);
}

class ZipStorages : public StorageFile {
 public:
  ZipStorages(std::unique_ptr<ZipArchive> archive, std::string folder)
      : archive_(std::move(archive)), folder_(std::move(folder)) {}

  Result<size_t> find(const std::string& key, uint64_t bytes) const override {
    const size_t record = archive_->find(folder_ + "data/" + key);
    if (record == SIZE_MAX) {
      return damaged("record data/{} is missing", printable(key));
    }
    if (const uint64_t found = archive_->records()[record].size; found != bytes) {
      return damaged("record data/{} should have {} bytes, it has {}", printable(key), bytes,
                     found);
    }
    return record;
  }

  bool has_random_access(size_t record) const override {
    return !archive_->records()[record].deflated;
  }

  Status read(size_t record, uint64_t offset, std::span<std::byte> out) const override {
    return archive_->read(record, offset, out);
  }

 private:
  std::unique_ptr<ZipArchive> archive_;
  std::string folder_;
};

// torch.save puts everything into one folder of any name: "archive/", "model/". Returns the name
// with its slash, or "" if there is none.
Result<std::string> find_folder(const ZipArchive& archive) {
  std::string folder;
  size_t n_found = 0;
  for (const ZipRecord& record : archive.records()) {
    const size_t slash = record.name.find('/');
    const size_t start = slash == std::string::npos ? 0 : slash + 1;
    if (std::string_view(record.name).substr(start) == kPickleName) {
      folder = record.name.substr(0, start);
      ++n_found;
    }
  }
  if (n_found != 1) {
    return bad_input(
        "{}: expected one data.pkl record in the zip file, found {}: this is not a PyTorch "
        "checkpoint; unpack the archive, or name the checkpoint",
        archive.path(), n_found);
  }
  return folder;
}

Status check_byte_order(const ZipArchive& archive, const std::string& folder) {
  const size_t record = archive.find(folder + "byteorder");
  if (record == SIZE_MAX) {
    return {};  // before torch 2.1; practically always little endian
  }
  RWKV_ASSIGN(const std::vector<std::byte> bytes, archive.read_all(record, kMaxByteOrderBytes));
  const std::string_view order(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (order != "little") {
    return bad_input(
        "{}: expected byteorder 'little', found '{}'; save it on a little-endian machine",
        archive.path(), printable(order));
  }
  return {};
}

Result<std::unique_ptr<TensorSource>> open_zip(std::shared_ptr<InputFile> file) {
  const std::string path = file->path();
  const uint64_t file_bytes = file->size();
  RWKV_ASSIGN(std::unique_ptr<ZipArchive> archive, ZipArchive::open(std::move(file)));
  RWKV_ASSIGN(std::string folder, find_folder(*archive));
  RWKV_TRY(check_byte_order(*archive, folder));
  const size_t record = archive->find(folder + std::string(kPickleName));
  RWKV_ASSIGN(std::vector<std::byte> bytes,
              archive->read_all(record, most_pickle_bytes(file_bytes)));
  PickleInput input(std::move(bytes), fmt::format("{}: {}", path, kPickleName));
  RWKV_ASSIGN(const Pickle pickle, unpickle(input, file_bytes));
  RWKV_ASSIGN(std::vector<StoredTensor> tensors, read_state_dict(*pickle.root, path));
  return make_pth_source(path, std::make_unique<ZipStorages>(std::move(archive), std::move(folder)),
                         std::move(tensors));
}

}  // namespace

Result<std::unique_ptr<TensorSource>> open_pth(const std::string& path) {
  RWKV_ASSIGN(std::shared_ptr<InputFile> file, InputFile::open(path));
  std::array<std::byte, 8> head{};
  if (file->size() < head.size()) {
    return bad_input("{}: has {} bytes: this is not a PyTorch checkpoint; fetch it again", path,
                     file->size());
  }
  RWKV_TRY(file->read_at(0, head));
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (text.starts_with("PK\x03\x04")) {
    return open_zip(std::move(file));
  }
  if (text[0] == '\x80') {
    return open_legacy_pth(std::move(file));
  }
  return bad_input(
      "{}: starts with '{}', neither a zip file nor a pickle: this is not a PyTorch checkpoint{}; "
      "name the checkpoint",
      path, printable(text),
      text.starts_with("version ") ? " but a pointer of Git LFS: run git lfs pull" : "");
}

}  // namespace rwkv::press
