// An output that appears under its name whole, and on storage, or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/base/status.h"

namespace rwkv {

/// A file written under a temporary name next to its final one and renamed into place by commit().
/// If it is destroyed without commit() it leaves nothing behind, and remove_unfinished_outputs()
/// does the same from a signal handler. What a killed process left is removed by the next output of
/// the same name (leftovers.h).
class OutputFile {
 public:
  enum class Existing { Refuse, Replace };

  /// Refuses what would fail after the work: a file that exists (Usage, unless it may be replaced),
  /// a folder that does not exist or may not be written, and a symbolic link to nothing. A link to
  /// a file stands for that file, and stays. A file that replaces another gets its mode, and owner
  /// and group as far as the user may give them; nobody may read it who could not before.
  static Result<std::unique_ptr<OutputFile>> create(const std::string& path, Existing existing);
  /// The error of create(), before work whose result would have nowhere to go.
  static Status check(const std::string& path, Existing existing);
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
  /// Flushes to storage, gives the file its name, and flushes the folder. Of the errors, only that
  /// of the last step leaves the file in place; it says so.
  Status commit();

 private:
  OutputFile(std::string path, std::string target, std::string temporary, int fd, Existing existing,
             int slot);
  Status write_out(uint64_t offset, std::span<const std::byte> bytes);
  Status flush();
  Status rename_new();
  std::string path_;    // as the user wrote it, for messages
  std::string target_;  // after symbolic links
  std::string temporary_;
  int fd_;
  Existing existing_;
  int slot_;
  uint64_t position_ = 0;
  std::vector<std::byte> buffer_;
};

/// Unlinks every OutputFile that is not committed. Async-signal-safe; for use before _exit().
void remove_unfinished_outputs();

}  // namespace rwkv
