// Files: a read-only mapping, positioned reads, and an output that appears whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

/// A regular file open for positioned reads. Safe to read from several threads.
class InputFile {
 public:
  /// Refuses directories and other things that are not regular files; an empty file is opened.
  static Result<std::shared_ptr<InputFile>> open(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }

  /// Fills `out` from `offset`. A range that ends after the end of the file is BadInput, not
  /// a short read.
  Status read_at(uint64_t offset, std::span<std::byte> out) const;
  /// Drops a range from the page cache, except for pages that are mapped. Bytes not yet written to
  /// storage are written first.
  void forget(uint64_t offset, uint64_t n_bytes) const;

 private:
  InputFile(std::string path, int fd, uint64_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}
  std::string path_;
  int fd_;
  uint64_t size_;
};

/// A whole file mapped read-only. The bytes live as long as the object.
class MappedFile {
 public:
  static Result<std::shared_ptr<MappedFile>> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(std::string path, const std::byte* data, size_t size)
      : path_(std::move(path)), data_(data), size_(size) {}
  std::string path_;
  const std::byte* data_;
  size_t size_;
};

/// A file written under a temporary name next to its final one and renamed into place by commit().
/// If it is destroyed without commit() it leaves nothing behind, and remove_unfinished_outputs()
/// does the same from a signal handler.
class OutputFile {
 public:
  enum class Existing { Refuse, Replace };

  static Result<std::unique_ptr<OutputFile>> create(const std::string& path, Existing existing);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::string& path() const { return path_; }
  /// The name of the unfinished file, for libraries that write by name.
  const std::string& temporary_path() const { return temporary_; }
  uint64_t position() const { return position_; }

  /// Appends. No space left is a Failed status that names the path and the bytes written.
  Status write(std::span<const std::byte> bytes);
  /// Appends zero bytes up to `position`; does nothing if the file is that long already.
  Status pad_to(uint64_t position);
  /// Overwrites bytes that were already written; the position stays.
  Status write_at(uint64_t offset, std::span<const std::byte> bytes);
  /// Flushes to storage and gives the file its name.
  Status commit();

 private:
  OutputFile(std::string path, std::string temporary, int fd, Existing existing, int slot)
      : path_(std::move(path)),
        temporary_(std::move(temporary)),
        fd_(fd),
        existing_(existing),
        slot_(slot) {}
  Status flush();
  std::string path_;
  std::string temporary_;
  int fd_;
  Existing existing_;
  int slot_;
  uint64_t position_ = 0;
  std::vector<std::byte> buffer_;
};

/// Unlinks every OutputFile that is not committed. Async-signal-safe; for use before _exit().
void remove_unfinished_outputs();

/// A whole text of at most `max_bytes`: a file, a pipe to its end, or "-", standard input.
Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes);

}  // namespace rwkv
