#include "formats/base/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "formats/base/leftovers.h"
#include "formats/base/system_calls.h"

namespace rwkv {
namespace {

constexpr size_t kWriteBuffer = size_t{1} << 20;
constexpr size_t kMaxOutputs = 8;
constexpr size_t kMaxPath = 4096;

std::string error_text(int error) {
  return std::strerror(error);
}

// Paths of unfinished outputs, in plain arrays so that a signal handler may read them.
struct PendingOutput {
  std::atomic<int> used{0};  // 0 free, 1 being filled, 2 pending
  std::array<char, kMaxPath> path{};
};
std::array<PendingOutput, kMaxOutputs> pending_outputs;

int remember_output(const std::string& path) {
  if (path.size() + 1 > kMaxPath) {
    return -1;
  }
  for (size_t i = 0; i < kMaxOutputs; ++i) {
    int expected = 0;
    if (pending_outputs[i].used.compare_exchange_strong(expected, 1)) {
      std::memcpy(pending_outputs[i].path.data(), path.c_str(), path.size() + 1);
      pending_outputs[i].used.store(2);
      return static_cast<int>(i);
    }
  }
  return -1;
}

void forget_output(int slot) {
  if (slot >= 0) {
    pending_outputs[static_cast<size_t>(slot)].used.store(0);
  }
}

// Where an output goes, and the file that it replaces.
struct Place {
  std::string path;  // after symbolic links
  std::optional<struct stat> replaced;
  std::string folder() const {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
  }
  std::string name() const { return path.substr(path.rfind('/') + 1); }
};

Result<Place> place_of(const std::string& path, OutputFile::Existing existing) {
  Place place{path, {}};
  struct stat info = {};
  const bool is_link = ::lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode);
  if (::stat(path.c_str(), &info) != 0) {
    return is_link ? Result<Place>(usage_error(
                         "{}: expected the name of an output file, found a symbolic link that "
                         "leads to no file; remove it, or name the file itself",
                         path))
                   : place;
  }
  if (!S_ISREG(info.st_mode)) {
    return usage_error(
        "{}: expected the name of an output file, found {}", path,
        S_ISDIR(info.st_mode) ? "a directory" : "something that is not a regular file");
  }
  if (existing == OutputFile::Existing::Refuse) {
    return usage_error("{}: already exists; use --force to replace it", path);
  }
  place.replaced = info;
  if (is_link) {
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
    if (!real) {
      return failed("{}: cannot follow the symbolic link: {}", path, error_text(errno));
    }
    place.path = real.get();
  }
  return place;
}

// An unfinished file of a new name, with its lock; -1 and errno if there is none.
int open_unfinished(const Place& place, std::string& name) {
  // One of this name may be left over where locks do not work, or belong to this process.
  constexpr int kTries = 100;
  const unsigned mode = place.replaced ? 0600 : 0666;
  for (int i = 0; i < kTries; ++i) {
    name = fmt::format("{}{}{}{}", place.path, kUnfinished, ::getpid(),
                       i == 0 ? "" : fmt::format("-{}", i));
    const int fd = open_uninterrupted(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno != EEXIST) {
      return -1;
    }
    if (fd < 0) {
      continue;
    }
    // Before it had its lock, another process may have taken the file for a leftover.
    struct stat info = {};
    if (try_lock(fd) != EWOULDBLOCK && ::fstat(fd, &info) == 0 && info.st_nlink > 0) {
      return fd;
    }
    ::close(fd);
  }
  errno = EEXIST;
  return -1;
}

// Gives a new file what it can keep of the one that it replaces. A failure leaves the mode of its
// creation, which lets only its owner read it.
void keep_access(int fd, const struct stat& replaced) {
  mode_t mode = replaced.st_mode & 0777;
  struct stat own = {};
  if (::fstat(fd, &own) != 0) {
    return;
  }
  if ((own.st_uid != replaced.st_uid || own.st_gid != replaced.st_gid) &&
      ::fchown(fd, replaced.st_uid, replaced.st_gid) != 0 &&
      ::fchown(fd, static_cast<uid_t>(-1), replaced.st_gid) != 0) {
    // The file belongs to another group than before, which may do what all others may.
    mode = (mode & ~mode_t{070}) | ((mode & 07) << 3);
  }
  static_cast<void>(::fchmod(fd, mode));
}

}  // namespace

Result<std::unique_ptr<OutputFile>> OutputFile::create(const std::string& path, Existing existing) {
  RWKV_ASSIGN(const Place place, place_of(path, existing));
  remove_leftovers(place.folder(), place.name());
  std::string temporary;
  const int fd = open_unfinished(place, temporary);
  if (fd < 0) {
    const int error = errno;
    struct stat info = {};
    if (error == ENOENT && ::stat(place.folder().c_str(), &info) != 0) {
      return failed("{}: cannot create: there is no folder {}; create it first", path,
                    place.folder());
    }
    return failed("{}: cannot create: {}", path, error_text(error));
  }
  const int slot = remember_output(temporary);
  auto file =
      std::unique_ptr<OutputFile>(new OutputFile(path, place.path, temporary, fd, existing, slot));
  if (place.replaced) {
    keep_access(fd, *place.replaced);
  }
  file->buffer_.reserve(kWriteBuffer);
  return file;
}

Status OutputFile::check(const std::string& path, Existing existing) {
  return create(path, existing).status();
}

OutputFile::OutputFile(std::string path, std::string target, std::string temporary, int fd,
                       Existing existing, int slot)
    : path_(std::move(path)),
      target_(std::move(target)),
      temporary_(std::move(temporary)),
      fd_(fd),
      existing_(existing),
      slot_(slot) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) {
    // Before the lock goes, so that nobody takes it for a leftover.
    ::unlink(temporary_.c_str());
    ::close(fd_);
  }
  forget_output(slot_);
}

Status OutputFile::write_out(uint64_t offset, std::span<const std::byte> bytes) {
  if (const int error = write_all_at(fd_, offset, bytes)) {
    return failed("{}: write failed after {} bytes: {}; nothing was kept", path_, offset,
                  error_text(error));
  }
  return {};
}

Status OutputFile::flush() {
  RWKV_TRY(write_out(position_ - buffer_.size(), buffer_));
  buffer_.clear();
  return {};
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > kWriteBuffer) {
    RWKV_TRY(flush());
  }
  if (bytes.size() >= kWriteBuffer) {
    RWKV_TRY(write_out(position_, bytes));
  } else {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  position_ += bytes.size();
  return {};
}

Status OutputFile::pad_to(uint64_t position) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (position_ < position) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(kZeros.size(), position - position_));
    RWKV_TRY(write(std::span(kZeros).first(n)));
  }
  return {};
}

Status OutputFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  RWKV_TRY(flush());
  if (offset > position_ || bytes.size() > position_ - offset) {
    return failed("{}: internal error: rewrite of {} bytes at {} goes past the end {}", path_,
                  bytes.size(), offset, position_);
  }
  return write_out(offset, bytes);
}

// Gives the file a name that nobody has taken meanwhile, where rename() would replace what is
// there.
Status OutputFile::rename_new() {
  int error =
      ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) == 0
          ? 0
          : errno;
  if (error == EINVAL || error == ENOSYS) {  // not every file system can do that
    error = ::link(temporary_.c_str(), target_.c_str()) == 0 ? 0 : errno;
    if (error == 0) {
      ::unlink(temporary_.c_str());
    } else if (error != EEXIST) {  // nor has every one links
      error = ::rename(temporary_.c_str(), target_.c_str()) == 0 ? 0 : errno;
    }
  }
  return error == 0        ? Status()
         : error == EEXIST ? usage_error(
                                 "{}: was created by another process meanwhile; nothing was "
                                 "replaced",
                                 path_)
                           : failed(
                                 "{}: cannot rename the finished file into place: {}; nothing "
                                 "was kept",
                                 path_, error_text(error));
}

Status OutputFile::commit() {
  RWKV_TRY(flush());
  if (uninterrupted([&] { return ::fsync(fd_); }) != 0) {
    return failed("{}: cannot flush to storage: {}; nothing was kept", path_, error_text(errno));
  }
  if (existing_ == Existing::Refuse) {
    RWKV_TRY(rename_new());
  } else if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    return failed("{}: cannot rename the finished file into place: {}; nothing was kept", path_,
                  error_text(errno));
  }
  ::close(fd_);
  fd_ = -1;
  // Until the folder is on storage too, a crash of the machine could undo the rename.
  if (const int error = sync_folder(Place{target_, {}}.folder().c_str())) {
    return failed(
        "{}: is complete, but its folder cannot be flushed to storage: {}; a crash of the machine "
        "could undo it",
        path_, error_text(error));
  }
  return {};
}

void remove_unfinished_outputs() {
  for (PendingOutput& output : pending_outputs) {
    if (output.used.load() == 2) {
      ::unlink(output.path.data());
    }
  }
}

}  // namespace rwkv
