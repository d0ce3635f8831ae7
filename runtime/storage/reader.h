// Positioned reads of a file, independent of how they are made: through the page cache
// (PlainReader), or in another way with a class of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "formats/base/file.h"
#include "runtime/threads/thread_pool.h"

namespace rwkv::edge {

class Reader {
 public:
  virtual ~Reader() = default;
  /// Fills `to` with the bytes from `offset` on. From any thread; does not allocate unless it
  /// fails.
  virtual Status read_at(uint64_t offset, std::span<std::byte> to) const = 0;
  /// The file, for messages.
  virtual const std::string& path() const = 0;
};

class PlainReader final : public Reader {
 public:
  explicit PlainReader(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {}
  Status read_at(uint64_t offset, std::span<std::byte> to) const override {
    return file_->read_at(offset, to);
  }
  const std::string& path() const override { return file_->path(); }

 private:
  std::shared_ptr<const InputFile> file_;
};

struct ReadRequest {
  uint64_t offset;
  std::span<std::byte> to;
};
/// Performs all `requests`, distributed to the threads `at_a_time` each. If one fails, the memory
/// of all of them may contain anything.
Status read_all(ThreadPool& pool, const Reader& reader, std::span<const ReadRequest> requests,
                size_t at_a_time);

}  // namespace rwkv::edge
