#include "compressor/checkpoint/zip_archive.h"

#include <zlib.h>

#include <algorithm>

#include "compressor/checkpoint/inflating_reader.h"
#include "compressor/checkpoint/zip_directory.h"
#include "formats/base/damaged.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;
// Passes that are kept to go on from: threads read slices of one or two tensors at a time.
constexpr size_t kMaxPasses = 4;

uint32_t crc_of(uint32_t crc, std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace

ZipArchive::ZipArchive(std::shared_ptr<InputFile> file) : file_(std::move(file)) {}

ZipArchive::~ZipArchive() = default;

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
    return damaged("{}: record {}: expected {} bytes at {}, but it has {}", path(),
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
    return damaged("{}: record {} has {} bytes, at most {} are accepted", path(),
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
  return damaged(
      "{}: CRC mismatch in record {}: expected {:08x}, found {:08x}", path(),
      printable(folder == std::string::npos ? record.name : record.name.substr(folder + 1)),
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

// The pass that stands nearest before `offset`, or a new one.
std::unique_ptr<InflatingReader> ZipArchive::take_pass(const ZipRecord& record,
                                                       uint64_t offset) const {
  const std::lock_guard lock(passes_mutex_);
  auto best = passes_.end();
  for (auto pass = passes_.begin(); pass != passes_.end(); ++pass) {
    if (&(*pass)->record() == &record && (*pass)->position() <= offset &&
        (best == passes_.end() || (*pass)->position() > (*best)->position())) {
      best = pass;
    }
  }
  if (best == passes_.end()) {
    return std::make_unique<InflatingReader>(*file_, record);
  }
  std::unique_ptr<InflatingReader> found = std::move(*best);
  passes_.erase(best);
  return found;
}

void ZipArchive::keep_pass(std::unique_ptr<InflatingReader> pass) const {
  const std::lock_guard lock(passes_mutex_);
  if (passes_.size() == kMaxPasses) {
    passes_.erase(passes_.begin());
  }
  passes_.push_back(std::move(pass));
}

// Slices in ascending order are one pass. The first read runs to the end, for the CRC.
Status ZipArchive::read_deflated(const ZipRecord& record, uint64_t offset, std::span<std::byte> out,
                                 bool verify) const {
  if (verify) {
    InflatingReader pass(*file_, record);
    RWKV_TRY(pass.skip_to(offset));
    RWKV_TRY(pass.next(out));
    uint32_t crc = 0;
    RWKV_TRY(pass.finish(crc));
    return check_crc(record, crc);
  }
  std::unique_ptr<InflatingReader> pass = take_pass(record, offset);
  RWKV_TRY(pass->skip_to(offset));
  RWKV_TRY(pass->next(out));
  if (pass->position() < record.size) {
    keep_pass(std::move(pass));
  }
  return {};
}

}  // namespace rwkv::press
