#include "compressor/checkpoint/edited_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace rwkv::press {
namespace {

// A file without a name: nothing is left behind however the process ends.
int open_unnamed(const std::string& folder) {
  const std::string where = folder.empty() ? "." : folder;
  const int fd = ::open(where.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) {
    return fd;
  }
  // Not every file system knows unnamed files.
  std::string path = where + "/.rwkv-press-XXXXXX";
  const int named = ::mkstemp(path.data());
  if (named >= 0) {
    ::unlink(path.c_str());
  }
  return named;
}

Status write_all(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return failed("cannot write {} bytes of temporary data beside the output: {}", bytes.size(),
                    std::strerror(errno));
    }
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Status read_all(int fd, uint64_t offset, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return failed("cannot read temporary data back: {}", std::strerror(errno));
    }
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<EditedSource>> EditedSource::create(const TensorSource& base,
                                                           const std::string& folder) {
  const int fd = open_unnamed(folder);
  if (fd < 0) {
    return failed("{}: cannot create a temporary file: {}", folder, std::strerror(errno));
  }
  return std::unique_ptr<EditedSource>(new EditedSource(base, fd));
}

EditedSource::EditedSource(const TensorSource& base, int fd)
    : base_(base), fd_(fd), infos_(base.tensors()), entries_(infos_.size()) {
  for (size_t i = 0; i < infos_.size(); ++i) {
    entries_[i].base_index = i;
    by_name_.emplace(infos_[i].name, i);
  }
}

EditedSource::~EditedSource() {
  ::close(fd_);
}

Status EditedSource::put(const std::string& name, std::vector<uint64_t> shape,
                         std::span<const float> values) {
  RWKV_TRY(write_all(fd_, end_, std::as_bytes(values)));
  Entry entry;
  entry.is_added = true;
  entry.offset = end_;
  end_ += values.size_bytes();
  const TensorInfo info{name, DType::F32, std::move(shape)};
  const auto [found, is_new] = by_name_.try_emplace(name, infos_.size());
  if (is_new) {
    infos_.push_back(info);
    entries_.push_back(std::move(entry));
  } else {
    infos_[found->second] = info;
    entries_[found->second] = std::move(entry);
  }
  return {};
}

Status EditedSource::permute_rows(const std::string& name, std::vector<uint64_t> rows) {
  RWKV_ASSIGN(const size_t index, index_of(name));
  if (!entries_[index].rows.empty() || infos_[index].shape.size() != 2 ||
      infos_[index].shape[0] != rows.size() ||
      infos_[index].shape[1] % traits(infos_[index].dtype).block != 0) {
    return bad_input("tensor '{}' ({} {}) cannot be put into another order of {} rows", name,
                     traits(infos_[index].dtype).name, shape_to_string(infos_[index].shape),
                     rows.size());
  }
  entries_[index].rows = std::move(rows);
  return {};
}

void EditedSource::remove(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    return;
  }
  const size_t index = found->second;
  infos_.erase(infos_.begin() + static_cast<std::ptrdiff_t>(index));
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(index));
  by_name_.erase(found);
  for (auto& [other, i] : by_name_) {
    i -= i > index ? 1 : 0;
  }
}

Result<size_t> EditedSource::index_of(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  if (found == by_name_.end()) {
    return bad_input("{}: tensor '{}' is missing", path(), name);
  }
  return found->second;
}

Status EditedSource::read(size_t index, std::vector<std::byte>& out) const {
  const Entry& entry = entries_[index];
  if (!entry.is_added && entry.rows.empty()) {
    return base_.read(entry.base_index, out);
  }
  out.resize(infos_[index].n_bytes());
  return read_range(index, 0, out);
}

Status EditedSource::read_range(size_t index, uint64_t offset, std::span<std::byte> out) const {
  const Entry& entry = entries_[index];
  return entry.rows.empty() ? read_unpermuted(entry, offset, out)
                            : read_permuted(entry, infos_[index], offset, out);
}

Status EditedSource::read_unpermuted(const Entry& entry, uint64_t offset,
                                     std::span<std::byte> out) const {
  return entry.is_added ? read_all(fd_, entry.offset + offset, out)
                        : base_.read_range(entry.base_index, offset, out);
}

// Piece by piece of rows, which may begin and end anywhere.
Status EditedSource::read_permuted(const Entry& entry, const TensorInfo& info, uint64_t offset,
                                   std::span<std::byte> out) const {
  const uint64_t row_bytes = info.n_bytes() / info.shape[0];
  while (!out.empty()) {
    const uint64_t row = offset / row_bytes;
    const uint64_t within = offset % row_bytes;
    const uint64_t n = std::min<uint64_t>(out.size(), row_bytes - within);
    RWKV_TRY(read_unpermuted(entry, entry.rows[row] * row_bytes + within, out.first(n)));
    out = out.subspan(n);
    offset += n;
  }
  return {};
}

}  // namespace rwkv::press
