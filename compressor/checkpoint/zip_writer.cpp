#include "compressor/checkpoint/zip_writer.h"

#include <zlib.h>

#include <array>

#include "formats/base/little_endian.h"

namespace rwkv::press {
namespace {

constexpr uint64_t kAlignment = 64;  // of tensor data in files that torch.save writes
constexpr size_t kLocalBytes = 30;
constexpr size_t kExtraHeaderBytes = 4;
constexpr uint16_t kVersion = 20;
constexpr uint16_t kVersionZip64 = 45;
constexpr uint16_t kFlagUtf8 = 1u << 11;
constexpr uint16_t kZip64Extra = 1;
constexpr uint16_t kPaddingExtra = 0x4246;  // "FB", the padding field of torch.save
constexpr uint16_t kFirstDay = 0x0021;      // 1980-01-01, the earliest valid date
constexpr uint32_t kSaturated = 0xffffffff;
constexpr size_t kMaxEntries = 0xffff;

template <typename T>
void append(std::string& out, T value) {
  std::array<std::byte, sizeof(T)> bytes;
  store_le(bytes.data(), value);
  out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

// The part that a local header and an entry of the directory have in common.
void append_common(std::string& out, bool zip64, uint32_t crc, uint64_t size, size_t name_bytes,
                   size_t extra_bytes) {
  const uint32_t size_field = zip64 ? kSaturated : static_cast<uint32_t>(size);
  append<uint16_t>(out, zip64 ? kVersionZip64 : kVersion);
  append<uint16_t>(out, kFlagUtf8);
  append<uint16_t>(out, 0);  // stored
  append<uint16_t>(out, 0);  // time
  append<uint16_t>(out, kFirstDay);
  append<uint32_t>(out, crc);
  append<uint32_t>(out, size_field);
  append<uint32_t>(out, size_field);
  append<uint16_t>(out, static_cast<uint16_t>(name_bytes));
  append<uint16_t>(out, static_cast<uint16_t>(extra_bytes));
}

void append_zip64(std::string& out, std::span<const uint64_t> values) {
  append<uint16_t>(out, kZip64Extra);
  append<uint16_t>(out, static_cast<uint16_t>(values.size() * sizeof(uint64_t)));
  for (const uint64_t value : values) {
    append(out, value);
  }
}

}  // namespace

Status ZipWriter::write(const std::string& bytes) {
  return file_.write(std::as_bytes(std::span(bytes)));
}

Status ZipWriter::add(const std::string& name, std::span<const std::byte> data) {
  if (name.empty() || name.size() > 0xffff) {
    return usage_error("{}: a zip record's name has {} bytes", file_.path(), name.size());
  }
  const uint64_t offset = file_.position();
  const auto crc =
      static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), data.size()));
  const bool zip64 = data.size() >= zip64_from_;
  std::string extra;
  if (zip64) {
    append_zip64(extra, std::array<uint64_t, 2>{data.size(), data.size()});
  }
  const uint64_t unpadded = offset + kLocalBytes + name.size() + extra.size() + kExtraHeaderBytes;
  const uint64_t padding = align_up(unpadded, kAlignment) - unpadded;
  append<uint16_t>(extra, kPaddingExtra);
  append<uint16_t>(extra, static_cast<uint16_t>(padding));
  extra.append(static_cast<size_t>(padding), 'Z');

  std::string header = "PK\x03\x04";
  append_common(header, zip64, crc, data.size(), name.size(), extra.size());
  RWKV_TRY(write(header + name + extra));
  RWKV_TRY(file_.write(data));
  entries_.push_back({name, offset, data.size(), crc});
  return {};
}

void ZipWriter::append_entry(const Entry& entry, std::string& out) const {
  const bool large = entry.size >= zip64_from_;
  const bool far = entry.offset >= zip64_from_;
  std::vector<uint64_t> values;
  if (large) {
    values = {entry.size, entry.size};
  }
  if (far) {
    values.push_back(entry.offset);
  }
  std::string extra;
  if (!values.empty()) {
    append_zip64(extra, values);
  }
  out += "PK\x01\x02";
  append<uint16_t>(out, kVersionZip64);  // made by
  append_common(out, large, entry.crc, entry.size, entry.name.size(), extra.size());
  append<uint16_t>(out, 0);  // comment
  append<uint16_t>(out, 0);  // part
  append<uint16_t>(out, 0);  // internal attributes
  append<uint32_t>(out, 0);  // external attributes
  append<uint32_t>(out, far ? kSaturated : static_cast<uint32_t>(entry.offset));
  out += entry.name + extra;
}

Status ZipWriter::finish() {
  const uint64_t start = file_.position();
  std::string directory;
  for (const Entry& entry : entries_) {
    append_entry(entry, directory);
  }
  const uint64_t n = entries_.size();
  const uint64_t bytes = directory.size();
  const bool zip64 = n >= kMaxEntries || bytes >= zip64_from_ || start >= zip64_from_;
  if (zip64) {
    directory += "PK\x06\x06";
    append<uint64_t>(directory, 44);  // bytes that follow
    append<uint16_t>(directory, kVersionZip64);
    append<uint16_t>(directory, kVersionZip64);
    append<uint32_t>(directory, 0);  // this part
    append<uint32_t>(directory, 0);  // the directory's part
    append<uint64_t>(directory, n);
    append<uint64_t>(directory, n);
    append<uint64_t>(directory, bytes);
    append<uint64_t>(directory, start);
    directory += "PK\x06\x07";
    append<uint32_t>(directory, 0);
    append<uint64_t>(directory, start + bytes);
    append<uint32_t>(directory, 1);  // parts
  }
  const auto count = zip64 ? uint16_t{0xffff} : static_cast<uint16_t>(n);
  directory += "PK\x05\x06";
  append<uint16_t>(directory, 0);
  append<uint16_t>(directory, 0);
  append<uint16_t>(directory, count);
  append<uint16_t>(directory, count);
  append<uint32_t>(directory, zip64 ? kSaturated : static_cast<uint32_t>(bytes));
  append<uint32_t>(directory, zip64 ? kSaturated : static_cast<uint32_t>(start));
  append<uint16_t>(directory, 0);  // comment
  return write(directory);
}

}  // namespace rwkv::press
