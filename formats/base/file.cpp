#include "formats/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "formats/base/little_endian.h"
#include "formats/base/mapped_files.h"
#include "formats/base/printable.h"

namespace rwkv {
namespace {

std::string error_text(int error) {
  return std::strerror(error);
}

struct OpenedFile {
  int fd;
  uint64_t size;
};

Result<OpenedFile> open_regular(const std::string& path) {
  // O_NONBLOCK: opening a named pipe, which is refused below, would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return bad_input("{}: cannot open: {}", path, error_text(errno));
  }
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    const bool is_folder = S_ISDIR(info.st_mode);
    ::close(fd);
    return bad_input("{}: expected a file, found {}", path,
                     is_folder ? "a directory" : "something that is not a regular file");
  }
  return OpenedFile{fd, static_cast<uint64_t>(info.st_size)};
}

constexpr size_t kWriteBuffer = size_t{1} << 20;
constexpr size_t kMaxOutputs = 8;
constexpr size_t kMaxPath = 4096;

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

}  // namespace

Result<std::shared_ptr<InputFile>> InputFile::open(const std::string& path) {
  RWKV_ASSIGN(const OpenedFile file, open_regular(path));
  return std::shared_ptr<InputFile>(new InputFile(path, file.fd, file.size));
}

InputFile::~InputFile() {
  ::close(fd_);
}

Status InputFile::read_at(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    return bad_input("{}: expected {} bytes at offset {}, but the file ends at {}; it is truncated",
                     path_, out.size(), offset, size_);
  }
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return failed("{}: read failed at offset {}: {}", path_, offset + done, error_text(errno));
    }
    if (n == 0) {
      return failed("{}: the file became shorter while it was read", path_);
    }
    done += static_cast<size_t>(n);
  }
  return {};
}

void InputFile::forget(uint64_t offset, uint64_t n_bytes) const {
  // Both are only advice: if they fail, the page cache stays as it is.
  static_cast<void>(::fdatasync(fd_));
  static_cast<void>(::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(n_bytes),
                                    POSIX_FADV_DONTNEED));
}

namespace {

constexpr size_t kMaxMappings = 32;
constexpr size_t kMaxShownPath = 512;

// In plain arrays, so that a signal handler may read them.
struct Mapping {
  std::atomic<int> used{0};  // 0 free, 1 being filled, 2 mapped
  const std::byte* begin = nullptr;
  size_t size = 0;
  std::array<char, kMaxShownPath> path{};
};
std::array<Mapping, kMaxMappings> mappings;

void remember_mapping(const std::string& path, const std::byte* begin, size_t size) {
  const std::string shown = printable(path, 400);
  for (Mapping& mapping : mappings) {
    int expected = 0;
    if (mapping.used.compare_exchange_strong(expected, 1)) {
      mapping.begin = begin;
      mapping.size = size;
      mapping.path[shown.copy(mapping.path.data(), kMaxShownPath - 1)] = '\0';
      mapping.used.store(2);
      return;
    }
  }
}

void forget_mapping(const std::byte* begin) {
  for (Mapping& mapping : mappings) {
    if (mapping.used.load() == 2 && mapping.begin == begin) {
      mapping.used.store(0);
      return;
    }
  }
}

}  // namespace

const char* mapped_file_at(const void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  for (const Mapping& mapping : mappings) {
    const auto begin = reinterpret_cast<uintptr_t>(mapping.begin);
    // The last page is mapped to its end.
    if (mapping.used.load() == 2 && at >= begin && at - begin < align_up(mapping.size, 1 << 16)) {
      return mapping.path.data();
    }
  }
  return nullptr;
}

Result<std::shared_ptr<MappedFile>> MappedFile::open(const std::string& path) {
  RWKV_ASSIGN(const OpenedFile file, open_regular(path));
  const std::byte* data = nullptr;
  const auto size = static_cast<size_t>(file.size);
  if (size > 0) {
    void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    const int error = errno;
    ::close(file.fd);
    if (mapped == MAP_FAILED) {
      return failed("{}: cannot map {} bytes: {}", path, size, error_text(error));
    }
    data = static_cast<const std::byte*>(mapped);
    remember_mapping(path, data, size);
  } else {
    ::close(file.fd);
  }
  return std::shared_ptr<MappedFile>(new MappedFile(path, data, size));
}

MappedFile::~MappedFile() {
  if (data_) {
    forget_mapping(data_);
    ::munmap(const_cast<std::byte*>(data_), size_);
  }
}

Result<std::unique_ptr<OutputFile>> OutputFile::create(const std::string& path, Existing existing) {
  struct stat info = {};
  if (::stat(path.c_str(), &info) == 0) {
    if (!S_ISREG(info.st_mode)) {
      return usage_error(
          "{}: expected the name of an output file, found {}", path,
          S_ISDIR(info.st_mode) ? "a directory" : "something that is not a regular file");
    }
    if (existing == Existing::Refuse) {
      return usage_error("{}: already exists; use --force to replace it", path);
    }
  }
  // A killed process with the same process id, here or on another machine, may have left a file.
  constexpr int kTries = 100;
  std::string temporary;
  int fd = -1;
  for (int i = 0; i < kTries && fd < 0 && (i == 0 || errno == EEXIST); ++i) {
    temporary =
        fmt::format("{}.unfinished-{}{}", path, ::getpid(), i == 0 ? "" : fmt::format("-{}", i));
    fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  if (fd < 0) {
    return failed("{}: cannot create: {}", path, error_text(errno));
  }
  const int slot = remember_output(temporary);
  auto file = std::unique_ptr<OutputFile>(new OutputFile(path, temporary, fd, existing, slot));
  file->buffer_.reserve(kWriteBuffer);
  return file;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
  forget_output(slot_);
}

namespace {

// Writes all of `bytes` at `offset`; 0 or an errno.
int write_all(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return errno;
    }
    done += static_cast<size_t>(n);
  }
  return 0;
}

}  // namespace

Status OutputFile::flush() {
  if (buffer_.empty()) {
    return {};
  }
  const uint64_t offset = position_ - buffer_.size();
  if (const int error = write_all(fd_, offset, buffer_)) {
    return failed("{}: write failed after {} bytes: {}; nothing was kept", path_, offset,
                  error_text(error));
  }
  buffer_.clear();
  return {};
}

Status OutputFile::write(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > kWriteBuffer) {
    RWKV_TRY(flush());
  }
  if (bytes.size() >= kWriteBuffer) {
    if (const int error = write_all(fd_, position_, bytes)) {
      return failed("{}: write failed after {} bytes: {}; nothing was kept", path_, position_,
                    error_text(error));
    }
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
  if (const int error = write_all(fd_, offset, bytes)) {
    return failed("{}: write failed at {}: {}; nothing was kept", path_, offset, error_text(error));
  }
  return {};
}

Status OutputFile::commit() {
  RWKV_TRY(flush());
  if (::fsync(fd_) != 0) {
    return failed("{}: cannot flush to storage: {}; nothing was kept", path_, error_text(errno));
  }
  // link() refuses an existing name where rename() would replace it, closing the gap between the
  // check in create() and now.
  if (existing_ == Existing::Refuse && ::link(temporary_.c_str(), path_.c_str()) == 0) {
    ::unlink(temporary_.c_str());
  } else if (existing_ == Existing::Refuse && errno == EEXIST) {
    return usage_error("{}: was created by another process meanwhile; nothing was replaced", path_);
  } else if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return failed("{}: cannot rename the finished file into place: {}", path_, error_text(errno));
  }
  ::close(fd_);
  fd_ = -1;
  return {};
}

void remove_unfinished_outputs() {
  for (PendingOutput& output : pending_outputs) {
    if (output.used.load() == 2) {
      ::unlink(output.path.data());
    }
  }
}

namespace {

/// What a pipe, a terminal or standard input says until it ends. `name` is for messages.
Result<std::string> read_stream(int fd, const std::string& name, uint64_t max_bytes) {
  constexpr size_t kPiece = size_t{1} << 16;
  std::string text;
  while (true) {
    const size_t size = text.size();
    text.resize(size + kPiece);
    const ssize_t n = ::read(fd, text.data() + size, kPiece);
    const int error = errno;
    text.resize(size + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0 && error != EINTR) {
      return failed("{}: read failed after {} bytes: {}", name, size, error_text(error));
    }
    if (text.size() > max_bytes) {
      return bad_input("{}: expected at most {} bytes, found more", name, max_bytes);
    }
    if (n == 0) {
      return text;
    }
  }
}

/// True for what can only be read from its beginning to its end: a pipe, a terminal, a socket.
bool is_stream(const std::string& path) {
  struct stat info = {};
  return ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode) &&
         !S_ISBLK(info.st_mode);
}

}  // namespace

Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes) {
  if (path == "-") {
    return read_stream(STDIN_FILENO, "standard input", max_bytes);
  }
  if (is_stream(path)) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      return bad_input("{}: cannot open: {}", path, error_text(errno));
    }
    Result<std::string> text = read_stream(fd, path, max_bytes);
    ::close(fd);
    return text;
  }
  RWKV_ASSIGN(const std::shared_ptr<InputFile> file, InputFile::open(path));
  if (file->size() > max_bytes) {
    return bad_input("{}: expected at most {} bytes, found {}", path, max_bytes, file->size());
  }
  std::string text(static_cast<size_t>(file->size()), '\0');
  RWKV_TRY(file->read_at(0, std::span(reinterpret_cast<std::byte*>(text.data()), text.size())));
  return text;
}

}  // namespace rwkv
