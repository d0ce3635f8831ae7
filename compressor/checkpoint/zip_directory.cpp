#include "compressor/checkpoint/zip_directory.h"

#include <algorithm>
#include <unordered_set>

#include "formats/base/damaged.h"
#include "formats/base/little_endian.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocatorSignature = 0x07064b50;
constexpr uint32_t kEntrySignature = 0x02014b50;
constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr size_t kEndBytes = 22;
constexpr size_t kEnd64Bytes = 56;
constexpr size_t kLocatorBytes = 20;
constexpr size_t kEntryBytes = 46;
constexpr size_t kLocalBytes = 30;
constexpr uint16_t kZip64Extra = 1;
constexpr uint32_t kSaturated = 0xffffffff;  // "see the zip64 field"
constexpr uint16_t kFlagEncrypted = 1u << 0;
constexpr uint16_t kFlagSizesLater = 1u << 3;  // the local header may have zeros
constexpr uint16_t kFlagStrong = 1u << 6;
constexpr uint16_t kFlagMasked = 1u << 13;
constexpr uint64_t kMaxDirectoryBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxDeflateRatio = 1032;  // of deflate itself, see zlib's technical notes

struct Directory {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t entries = 0;
  uint64_t end = 0;  // where the end record starts
};

class DirectoryReader {
 public:
  explicit DirectoryReader(const InputFile& file) : file_(file) {}

  Result<std::vector<ZipRecord>> read();

 private:
  template <typename... Args>
  Status error(fmt::format_string<Args...> format, Args&&... args) const {
    return bad_input("{}: {}", file_.path(), fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  Status broken(fmt::format_string<Args...> format, Args&&... args) const {
    return damaged("{}: {}", file_.path(), fmt::format(format, std::forward<Args>(args)...));
  }
  Result<std::vector<std::byte>> bytes_at(uint64_t offset, uint64_t n) const;
  Status find_end(Directory& out) const;
  Status find_end64(Directory& out) const;
  Status read_entry(Bytes& rest, ZipRecord& out) const;
  Status check_local_header(ZipRecord& record, uint64_t limit) const;
  Status check_extents(const std::vector<ZipRecord>& records, uint64_t limit) const;

  const InputFile& file_;
};

// Replaces saturated values by those of the zip64 extra field, which lists only them.
bool resolve_zip64(Bytes extra, std::span<uint64_t* const> values) {
  const bool wanted = std::any_of(values.begin(), values.end(),
                                  [](const uint64_t* value) { return *value == kSaturated; });
  while (wanted && extra.size() >= 4) {
    const auto id = load_le<uint16_t>(extra.data());
    const size_t size = load_le<uint16_t>(extra.data() + 2);
    if (size > extra.size() - 4) {
      return false;
    }
    Bytes field = extra.subspan(4, size);
    extra = extra.subspan(4 + size);
    if (id != kZip64Extra) {
      continue;
    }
    for (uint64_t* const value : values) {
      if (*value == kSaturated) {
        if (field.size() < 8) {
          return false;
        }
        *value = load_le<uint64_t>(field.data());
        field = field.subspan(8);
      }
    }
    return true;
  }
  return !wanted;
}

Result<std::vector<std::byte>> DirectoryReader::bytes_at(uint64_t offset, uint64_t n) const {
  if (offset > file_.size() || n > file_.size() - offset) {
    return error(
        "zip directory: expected {} bytes at {}, but the file ends at {}; it is truncated, fetch "
        "it again",
        n, offset, file_.size());
  }
  std::vector<std::byte> bytes(static_cast<size_t>(n));
  RWKV_TRY(file_.read_at(offset, bytes));
  return bytes;
}

Status DirectoryReader::find_end(Directory& out) const {
  constexpr uint64_t kMaxComment = 0xffff;
  const uint64_t n = std::min<uint64_t>(file_.size(), kEndBytes + kMaxComment);
  RWKV_ASSIGN(const std::vector<std::byte> tail, bytes_at(file_.size() - n, n));
  for (size_t at = tail.size() < kEndBytes ? 0 : tail.size() - kEndBytes + 1; at > 0; --at) {
    const std::byte* const end = tail.data() + at - 1;
    const size_t after = tail.size() - (at - 1) - kEndBytes;
    if (load_le<uint32_t>(end) != kEndSignature || load_le<uint16_t>(end + 20) != after) {
      continue;
    }
    if (load_le<uint16_t>(end + 4) != 0 || load_le<uint16_t>(end + 6) != 0 ||
        load_le<uint16_t>(end + 8) != load_le<uint16_t>(end + 10)) {
      return error("a zip file in several parts; join them first");
    }
    out.entries = load_le<uint16_t>(end + 10);
    out.bytes = load_le<uint32_t>(end + 12);
    out.offset = load_le<uint32_t>(end + 16);
    out.end = file_.size() - n + (at - 1);
    return find_end64(out);
  }
  return error("no zip directory at the end; the file was cut, fetch it again");
}

// The zip64 end record, if its locator precedes the end record that `out` holds.
Status DirectoryReader::find_end64(Directory& out) const {
  const bool saturated =
      out.entries == 0xffff || out.bytes == kSaturated || out.offset == kSaturated;
  std::vector<std::byte> locator;
  if (out.end >= kLocatorBytes) {
    RWKV_ASSIGN(locator, bytes_at(out.end - kLocatorBytes, kLocatorBytes));
  }
  if (locator.empty() || load_le<uint32_t>(locator.data()) != kLocatorSignature) {
    return saturated ? broken("the zip64 directory is missing") : Status();
  }
  const auto offset = load_le<uint64_t>(locator.data() + 8);
  RWKV_ASSIGN(const std::vector<std::byte> end, bytes_at(offset, kEnd64Bytes));
  if (load_le<uint32_t>(end.data()) != kEnd64Signature || offset >= out.end) {
    return broken("no zip64 directory at {}", offset);
  }
  const auto entries_here = load_le<uint64_t>(end.data() + 24);
  const auto entries = load_le<uint64_t>(end.data() + 32);
  const auto bytes = load_le<uint64_t>(end.data() + 40);
  const auto start = load_le<uint64_t>(end.data() + 48);
  if (load_le<uint32_t>(end.data() + 16) != 0 || load_le<uint32_t>(end.data() + 20) != 0 ||
      entries_here != entries) {
    return error("a zip file in several parts; join them first");
  }
  if ((out.entries != 0xffff && out.entries != entries) ||
      (out.bytes != kSaturated && out.bytes != bytes) ||
      (out.offset != kSaturated && out.offset != start)) {
    return broken("the two zip directories disagree");
  }
  out = {start, bytes, entries, offset};
  return {};
}

// Takes one entry off the front of `rest`.
Status DirectoryReader::read_entry(Bytes& rest, ZipRecord& out) const {
  if (rest.size() < kEntryBytes || load_le<uint32_t>(rest.data()) != kEntrySignature) {
    return broken("the zip directory has fewer entries than it claims");
  }
  const std::byte* const entry = rest.data();
  const size_t name_bytes = load_le<uint16_t>(entry + 28);
  const size_t extra_bytes = load_le<uint16_t>(entry + 30);
  const size_t total = kEntryBytes + name_bytes + extra_bytes + load_le<uint16_t>(entry + 32);
  if (total > rest.size()) {
    return broken("an entry of the zip directory is truncated");
  }
  out.name.assign(reinterpret_cast<const char*>(entry) + kEntryBytes, name_bytes);
  const std::string shown = printable(out.name);
  const auto flags = load_le<uint16_t>(entry + 8);
  const auto method = load_le<uint16_t>(entry + 10);
  out.deflated = method == 8;
  out.crc = load_le<uint32_t>(entry + 16);
  out.packed_size = load_le<uint32_t>(entry + 20);
  out.size = load_le<uint32_t>(entry + 24);
  out.header_offset = load_le<uint32_t>(entry + 42);
  uint64_t* const values[] = {&out.size, &out.packed_size, &out.header_offset};
  if (!resolve_zip64(rest.subspan(kEntryBytes + name_bytes, extra_bytes), values)) {
    return broken("record {}: its zip64 field is missing", shown);
  }
  if ((flags & (kFlagEncrypted | kFlagStrong | kFlagMasked)) != 0) {
    return error("record {} is encrypted; decrypt it first", shown);
  }
  if (load_le<uint16_t>(entry + 34) != 0) {
    return error("record {} is in another part; join the parts first", shown);
  }
  if (method != 0 && method != 8) {
    return error(
        "record {} has compression method {}, expected stored (0) or deflated (8); save it again "
        "with torch.save",
        shown, method);
  }
  if (!out.deflated && out.packed_size != out.size) {
    return broken("record {}: {} bytes stored as {}", shown, out.size, out.packed_size);
  }
  if (out.deflated && out.size / kMaxDeflateRatio > out.packed_size) {
    return broken("record {}: {} bytes cannot come from {} deflated ones", shown, out.size,
                  out.packed_size);
  }
  out.crc_known = out.crc != 0;
  rest = rest.subspan(total);
  return {};
}

// Sets data_offset. `limit` is where the directory starts.
Status DirectoryReader::check_local_header(ZipRecord& record, uint64_t limit) const {
  const std::string shown = printable(record.name);
  if (record.header_offset > limit || limit - record.header_offset < kLocalBytes) {
    return broken("record {} starts at {}, after the end of the records at {}", shown,
                  record.header_offset, limit);
  }
  RWKV_ASSIGN(std::vector<std::byte> fixed, bytes_at(record.header_offset, kLocalBytes));
  const size_t name_bytes = load_le<uint16_t>(fixed.data() + 26);
  const size_t extra_bytes = load_le<uint16_t>(fixed.data() + 28);
  record.data_offset = record.header_offset + kLocalBytes + name_bytes + extra_bytes;
  if (load_le<uint32_t>(fixed.data()) != kLocalSignature || record.data_offset > limit ||
      record.packed_size > limit - record.data_offset) {
    return broken("record {}: {} bytes at {} do not lie before the directory at {}", shown,
                  record.packed_size, record.header_offset, limit);
  }
  RWKV_ASSIGN(const std::vector<std::byte> variable,
              bytes_at(record.header_offset + kLocalBytes, name_bytes + extra_bytes));
  const std::string_view name(reinterpret_cast<const char*>(variable.data()), name_bytes);
  const auto flags = load_le<uint16_t>(fixed.data() + 6);
  const auto method = load_le<uint16_t>(fixed.data() + 8);
  const auto crc = load_le<uint32_t>(fixed.data() + 14);
  uint64_t packed = load_le<uint32_t>(fixed.data() + 18);
  uint64_t size = load_le<uint32_t>(fixed.data() + 22);
  uint64_t* const values[] = {&size, &packed};
  const bool later = (flags & kFlagSizesLater) != 0;
  const auto agrees = [later](uint64_t local, uint64_t entry) {
    return local == entry || (later && local == 0);
  };
  if (name != record.name || method != (record.deflated ? 8 : 0) ||
      (flags & (kFlagEncrypted | kFlagStrong | kFlagMasked)) != 0 ||
      !resolve_zip64(Bytes(variable).subspan(name_bytes), values) || !agrees(size, record.size) ||
      !agrees(packed, record.packed_size) || !agrees(crc, record.crc)) {
    return broken("record {}: its own header and the directory disagree", shown);
  }
  return {};
}

Status DirectoryReader::check_extents(const std::vector<ZipRecord>& records, uint64_t limit) const {
  std::vector<const ZipRecord*> sorted;
  sorted.reserve(records.size());
  for (const ZipRecord& record : records) {
    sorted.push_back(&record);
  }
  std::sort(sorted.begin(), sorted.end(), [](const ZipRecord* a, const ZipRecord* b) {
    return a->header_offset < b->header_offset;
  });
  for (size_t i = 0; i < sorted.size(); ++i) {
    const ZipRecord& record = *sorted[i];
    const uint64_t next = i + 1 < sorted.size() ? sorted[i + 1]->header_offset : limit;
    if (record.data_offset + record.packed_size > next) {
      return broken("record {} overlaps record {}", printable(record.name),
                    printable(sorted[i + 1]->name));
    }
  }
  return {};
}

Result<std::vector<ZipRecord>> DirectoryReader::read() {
  Directory directory;
  RWKV_TRY(find_end(directory));
  uint64_t directory_end = 0;
  if (!checked_add(directory.offset, directory.bytes, directory_end) ||
      directory_end > directory.end || directory.bytes > kMaxDirectoryBytes ||
      directory.entries > directory.bytes / kEntryBytes) {
    return broken(
        "the zip directory claims {} entries in {} bytes at {}, which the file of {} bytes cannot "
        "contain",
        directory.entries, directory.bytes, directory.offset, file_.size());
  }
  RWKV_ASSIGN(const std::vector<std::byte> bytes, bytes_at(directory.offset, directory.bytes));
  Bytes rest = bytes;
  std::vector<ZipRecord> records(static_cast<size_t>(directory.entries));
  std::unordered_set<std::string_view> names;
  for (ZipRecord& record : records) {
    RWKV_TRY(read_entry(rest, record));
    RWKV_TRY(check_local_header(record, directory.offset));
    if (!names.insert(record.name).second) {
      return broken("record {} occurs twice", printable(record.name));
    }
  }
  if (!rest.empty()) {
    return broken("the zip directory has {} bytes too many", rest.size());
  }
  RWKV_TRY(check_extents(records, directory.offset));
  return records;
}

}  // namespace

Result<std::vector<ZipRecord>> read_zip_directory(const InputFile& file) {
  return DirectoryReader(file).read();
}

}  // namespace rwkv::press
