// Files to read: positioned reads, a read-only mapping, whole texts. Outputs: output_file.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "formats/base/output_file.h"
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

/// A whole text of at most `max_bytes`: a file, a pipe to its end, or "-", standard input.
Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes);

}  // namespace rwkv
