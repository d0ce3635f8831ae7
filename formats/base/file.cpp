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
#include "formats/base/system_calls.h"

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
  const int fd = open_uninterrupted(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return bad_input("{}: cannot open: {}; check its name and permissions", path,
                     error_text(errno));
  }
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    const bool is_folder = S_ISDIR(info.st_mode);
    ::close(fd);
    return bad_input("{}: expected a file, found {}; name a file", path,
                     is_folder ? "a directory" : "something that is not a regular file");
  }
  return OpenedFile{fd, static_cast<uint64_t>(info.st_size)};
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
    return bad_input(
        "{}: expected {} bytes at offset {}, but the file ends at {}; it is truncated, fetch it "
        "again",
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
    const int fd = open_uninterrupted(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      return bad_input("{}: cannot open: {}; check its name and permissions", path,
                       error_text(errno));
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
