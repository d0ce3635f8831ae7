#include "compressor/checkpoint/zip_archive.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "compressor/checkpoint/pickle_value.h"
#include "compressor/checkpoint/zip_directory.h"

namespace rwkv::press {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

uint32_t crc_of(uint32_t crc, std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

// A raw inflate stream that frees its memory.
class Inflater {
 public:
  Inflater() : ready_(inflateInit2(&stream_, -MAX_WBITS) == Z_OK) {}
  ~Inflater() {
    if (ready_) {
      inflateEnd(&stream_);
    }
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  bool ready() const { return ready_; }
  z_stream& stream() { return stream_; }

 private:
  z_stream stream_ = {};
  bool ready_;
};

}  // namespace

Result<std::unique_ptr<ZipArchive>> ZipArchive::open(std::shared_ptr<InputFile> file) {
  auto archive = std::unique_ptr<ZipArchive>(new ZipArchive(std::move(file)));
  RWKV_ASSIGN(archive->records_, read_zip_directory(*archive->file_));
  for (size_t i = 0; i < archive->records_.size(); ++i) {
    archive->by_name_.emplace(archive->records_[i].name, i);
  }
  archive->verified_ = std::make_unique<std::atomic<bool>[]>(archive->records_.size());
  return archive;
}

size_t ZipArchive::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? SIZE_MAX : found->second;
}

Status ZipArchive::read(size_t index, uint64_t offset, std::span<std::byte> out) const {
  const ZipRecord& record = records_[index];
  if (offset > record.size || out.size() > record.size - offset) {
    return bad_input("{}: record {}: expected {} bytes at {}, but it has {}", path(),
                     printable(record.name), out.size(), offset, record.size);
  }
  // Two threads may both verify a record; the answer is the same.
  const bool verify = !verified_[index].load();
  RWKV_TRY(record.deflated ? read_deflated(record, offset, out, verify)
                           : read_stored(record, offset, out, verify));
  verified_[index].store(true);
  return {};
}

Result<std::vector<std::byte>> ZipArchive::read_all(size_t index, uint64_t max_bytes) const {
  const ZipRecord& record = records_[index];
  if (record.size > max_bytes) {
    return bad_input("{}: record {} has {} bytes, at most {} are accepted", path(),
                     printable(record.name), record.size, max_bytes);
  }
  std::vector<std::byte> bytes(static_cast<size_t>(record.size));
  RWKV_TRY(read(index, 0, bytes));
  return bytes;
}

Status ZipArchive::check_crc(const ZipRecord& record, uint32_t found) const {
  if (!record.crc_known || found == record.crc) {
    return {};
  }
  const size_t folder = record.name.find('/');
  return bad_input(
      "{}: CRC mismatch in record {}: expected {:08x}, found {:08x}; the file is "
      "damaged, download it again",
      path(), printable(folder == std::string::npos ? record.name : record.name.substr(folder + 1)),
      record.crc, found);
}

Status ZipArchive::read_stored(const ZipRecord& record, uint64_t offset, std::span<std::byte> out,
                               bool verify) const {
  const bool whole = out.size() == record.size;
  if (verify && record.crc_known && !whole) {
    std::vector<std::byte> buffer(
        static_cast<size_t>(std::min<uint64_t>(kBufferBytes, record.size)));
    uint32_t crc = 0;
    for (uint64_t done = 0; done < record.size;) {
      const auto n = static_cast<size_t>(std::min<uint64_t>(buffer.size(), record.size - done));
      RWKV_TRY(file_->read_at(record.data_offset + done, std::span(buffer).first(n)));
      crc = crc_of(crc, std::span(buffer).first(n));
      done += n;
    }
    RWKV_TRY(check_crc(record, crc));
  }
  RWKV_TRY(file_->read_at(record.data_offset + offset, out));
  return verify && whole ? check_crc(record, crc_of(0, out)) : Status();
}

// Inflates from the start through two buffers and keeps the bytes in the range. The first time it
// runs to the end, for the CRC.
Status ZipArchive::read_deflated(const ZipRecord& record, uint64_t offset, std::span<std::byte> out,
                                 bool verify) const {
  const auto damaged = [&] {
    return bad_input("{}: record {} cannot be inflated to its {} bytes; the file is damaged",
                     path(), printable(record.name), record.size);
  };
  Inflater inflater;
  if (!inflater.ready()) {
    return failed("{}: not enough memory to inflate record {}", path(), printable(record.name));
  }
  const uint64_t stop = verify ? record.size : offset + out.size();
  std::vector<std::byte> packed(kBufferBytes / 4);
  std::vector<std::byte> plain(kBufferBytes);
  z_stream& stream = inflater.stream();
  uint64_t packed_done = 0;
  uint64_t done = 0;
  uint32_t crc = 0;
  int state = Z_OK;
  while (state != Z_STREAM_END && (done < stop || verify)) {
    if (stream.avail_in == 0) {
      const auto n = std::min<uint64_t>(packed.size(), record.packed_size - packed_done);
      RWKV_TRY(file_->read_at(record.data_offset + packed_done,
                              std::span(packed).first(static_cast<size_t>(n))));
      packed_done += n;
      stream.next_in = reinterpret_cast<Bytef*>(packed.data());
      stream.avail_in = static_cast<uInt>(n);
    }
    stream.next_out = reinterpret_cast<Bytef*>(plain.data());
    stream.avail_out = static_cast<uInt>(plain.size());
    state = inflate(&stream, Z_NO_FLUSH);
    const size_t n = plain.size() - stream.avail_out;
    // No progress (Z_BUF_ERROR) means that the packed bytes ran out before the stream's end.
    if ((state != Z_OK && state != Z_STREAM_END) || n > record.size - done) {
      return damaged();
    }
    crc = crc_of(crc, std::span(plain).first(n));
    const uint64_t from = std::max(done, offset);
    const uint64_t to = std::min(done + n, offset + out.size());
    if (from < to) {
      std::memcpy(out.data() + (from - offset), plain.data() + (from - done),
                  static_cast<size_t>(to - from));
    }
    done += n;
  }
  if (done < stop) {
    return damaged();
  }
  return verify ? check_crc(record, crc) : Status();
}

}  // namespace rwkv::press
