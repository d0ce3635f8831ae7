#include "compressor/checkpoint/scratch_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "formats/base/system_calls.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{1} << 20;

// A file without a name: nothing remains when the process ends, in any way.
int open_unnamed(const std::string& where) {
  const int fd = ::open(where.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) {
    return fd;
  }
  // Not every file system supports unnamed files.
  std::string path = where + "/.rwkv-press-XXXXXX";
  const int named = ::mkstemp(path.data());
  if (named >= 0) {
    ::unlink(path.c_str());
  }
  return named;
}

}  // namespace

Result<std::unique_ptr<ScratchFile>> ScratchFile::unnamed(const std::string& folder) {
  const int fd = open_unnamed(folder.empty() ? "." : folder);
  if (fd < 0) {
    return failed("{}: cannot create a temporary file: {}", folder, std::strerror(errno));
  }
  return std::unique_ptr<ScratchFile>(new ScratchFile(fd, ""));
}

Result<std::unique_ptr<ScratchFile>> ScratchFile::kept(const std::string& path, uint64_t end,
                                                       uint64_t xxh64) {
  const int fd = open_uninterrupted(path.c_str(),
                                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (fd < 0) {
    return failed("{}: cannot open: {}", path, std::strerror(errno));
  }
  std::unique_ptr<ScratchFile> file(new ScratchFile(fd, path));
  struct stat status = {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return failed("{}: expected a regular file; remove it", path);
  }
  if (try_lock(fd) == EWOULDBLOCK) {
    return usage_error(
        "{}: another process works on this output; wait for its end, or choose another output",
        path);
  }
  if (static_cast<uint64_t>(status.st_size) < end) {
    return bad_input("{}: expected {} bytes, found {}; it was cut", path, end, status.st_size);
  }
  RWKV_TRY(file->check(end, xxh64));
  if (::ftruncate(fd, static_cast<off_t>(end)) != 0) {
    return failed("{}: cannot cut to {} bytes: {}", path, end, std::strerror(errno));
  }
  return file;
}

Status ScratchFile::check(uint64_t end, uint64_t xxh64) {
  std::vector<std::byte> piece;
  while (end_ < end) {
    piece.resize(static_cast<size_t>(std::min(kPieceBytes, end - end_)));
    RWKV_TRY(read(end_, piece));
    hash_.update(piece);
    end_ += piece.size();
  }
  if (end > 0 && hash_.digest() != xxh64) {
    return bad_input("{}: expected the checksum {:016x}, found {:016x}; it is damaged", path_,
                     xxh64, hash_.digest());
  }
  return {};
}

ScratchFile::~ScratchFile() {
  ::close(fd_);
}

Status ScratchFile::append(std::span<const std::byte> bytes) {
  if (const int error = write_all_at(fd_, end_, bytes)) {
    return failed("cannot write {} bytes of temporary data next to the output: {}", bytes.size(),
                  std::strerror(error));
  }
  end_ += bytes.size();
  if (!path_.empty()) {
    hash_.update(bytes);
  }
  return {};
}

Status ScratchFile::read(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return failed("cannot read temporary data back: {}",
                    n < 0 ? std::strerror(errno) : "it ends too early");
    }
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Status ScratchFile::sync() {
  return uninterrupted([&] { return ::fdatasync(fd_); }) == 0
             ? Status()
             : failed("{}: cannot write to storage: {}", path_, std::strerror(errno));
}

}  // namespace rwkv::press
