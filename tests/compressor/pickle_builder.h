// Assembles pickles, zip files and whole checkpoints byte by byte, good ones and hostile ones, so
// that the tests of the .pth reader need no Python.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/little_endian.h"

namespace rwkv::test {

template <typename T>
std::string le(T value) {
  std::string out(sizeof(T), '\0');
  store_le(reinterpret_cast<std::byte*>(out.data()), value);
  return out;
}

/// Each call appends one opcode.
class PickleBuilder {
 public:
  explicit PickleBuilder(int protocol = 2) : out_("\x80") { out_ += static_cast<char>(protocol); }

  PickleBuilder& raw(std::string_view bytes) {
    out_ += bytes;
    return *this;
  }
  PickleBuilder& op(char code) { return raw({&code, 1}); }
  PickleBuilder& str(std::string_view text) {
    return op('X').raw(le(static_cast<uint32_t>(text.size()))).raw(text);
  }
  PickleBuilder& short_str(std::string_view text) {
    return op('\x8c').op(static_cast<char>(text.size())).raw(text);
  }
  PickleBuilder& integer(int64_t value) {
    return value == static_cast<int32_t>(value) ? op('J').raw(le(static_cast<int32_t>(value)))
                                                : op('\x8a').op(8).raw(le(value));
  }
  PickleBuilder& global(std::string_view module, std::string_view name) {
    return op('c').raw(module).op('\n').raw(name).op('\n');
  }
  PickleBuilder& tuple(const std::vector<int64_t>& values) {
    op('(');
    for (const int64_t value : values) {
      integer(value);
    }
    return op('t');
  }
  PickleBuilder& ordered_dict() { return global("collections", "OrderedDict").op(')').op('R'); }
  std::string stop() const { return out_ + '.'; }

 private:
  std::string out_;
};

/// Arguments of a tensor as a pickle has them; every one may be wrong.
struct TensorSpec {
  std::string name = "w";
  std::string storage_class = "FloatStorage";
  std::string key = "0";
  int64_t numel = 0;
  int64_t offset = 0;
  std::vector<int64_t> shape = {};
  std::vector<int64_t> strides = {};
  std::string location = "cpu";
  std::string v3_dtype = {};                      ///< not empty: _rebuild_tensor_v3
  bool legacy = false;                            ///< a sixth entry in the persistent id
  std::optional<std::vector<int64_t>> view = {};  ///< offset and elements of a legacy view
};

/// Pushes the tensor, without its name.
inline void add_tensor(PickleBuilder& pickle, const TensorSpec& spec) {
  pickle.global("torch._utils",
                spec.v3_dtype.empty() ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3");
  pickle.op('(').op('(').str("storage");
  pickle.global(spec.storage_class == "UntypedStorage" ? "torch.storage" : "torch",
                spec.storage_class);
  pickle.str(spec.key).str(spec.location).integer(spec.numel);
  if (spec.view) {
    pickle.op('(').str("view").integer((*spec.view)[0]).integer((*spec.view)[1]).op('t');
  } else if (spec.legacy) {
    pickle.op('N');
  }
  pickle.op('t').op('Q').integer(spec.offset).tuple(spec.shape).tuple(spec.strides);
  pickle.op('\x89').ordered_dict();
  if (!spec.v3_dtype.empty()) {
    pickle.global("torch", spec.v3_dtype);
  }
  pickle.op('t').op('R');
}

/// A dict of the tensors.
inline std::string dict_pickle(const std::vector<TensorSpec>& specs) {
  PickleBuilder pickle;
  pickle.op('}').op('(');
  for (const TensorSpec& spec : specs) {
    pickle.str(spec.name);
    add_tensor(pickle, spec);
  }
  return pickle.op('u').stop();
}

/// One record of a zip file; what is set overrules what would be right.
struct ZipEntry {
  std::string name;
  std::string data;
  bool deflate = false;
  std::optional<uint32_t> crc = {};
  std::optional<uint32_t> size = {};  ///< in the directory and the local header
  std::optional<uint32_t> local_size = {};
  std::optional<std::string> local_name = {};
  std::optional<uint32_t> header_offset = {};
  uint16_t flags = 0;
  uint16_t disk = 0;
  std::optional<uint16_t> method = {};
};

inline std::string deflate_raw(const std::string& data) {
  z_stream stream = {};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string make_zip(const std::vector<ZipEntry>& entries) {
  std::string out;
  std::string directory;
  for (const ZipEntry& entry : entries) {
    const std::string packed = entry.deflate ? deflate_raw(entry.data) : entry.data;
    const auto* data = reinterpret_cast<const Bytef*>(entry.data.data());
    const auto crc = entry.crc.value_or(static_cast<uint32_t>(crc32_z(0, data, entry.data.size())));
    const uint32_t size = entry.size.value_or(static_cast<uint32_t>(entry.data.size()));
    const uint32_t packed_size = entry.deflate ? static_cast<uint32_t>(packed.size()) : size;
    const uint16_t method = entry.method.value_or(entry.deflate ? 8 : 0);
    const auto common = [&](uint32_t plain, const std::string& name) {
      return le<uint16_t>(20) + le(entry.flags) + le(method) + le<uint32_t>(0) + le(crc) +
             le(entry.deflate ? packed_size : plain) + le(plain) +
             le(static_cast<uint16_t>(name.size())) + le<uint16_t>(0);
    };
    const std::string local_name = entry.local_name.value_or(entry.name);
    const auto offset = entry.header_offset.value_or(static_cast<uint32_t>(out.size()));
    out += "PK\x03\x04" + common(entry.local_size.value_or(size), local_name) + local_name + packed;
    directory += "PK\x01\x02" + le<uint16_t>(20) + common(size, entry.name) + le<uint16_t>(0) +
                 le(entry.disk) + le<uint16_t>(0) + le<uint32_t>(0) + le(offset) + entry.name;
  }
  const auto count = static_cast<uint16_t>(entries.size());
  const auto start = static_cast<uint32_t>(out.size());
  return out + directory + "PK\x05\x06" + le<uint32_t>(0) + le(count) + le(count) +
         le(static_cast<uint32_t>(directory.size())) + le(start) + le<uint16_t>(0);
}

/// The checkpoint "model/" with this pickle and these storages, "data/0" first.
inline std::vector<ZipEntry> checkpoint_entries(const std::string& pickle,
                                                const std::vector<std::string>& storages) {
  std::vector<ZipEntry> entries = {{"model/data.pkl", pickle}, {"model/byteorder", "little"}};
  for (size_t i = 0; i < storages.size(); ++i) {
    entries.push_back({"model/data/" + std::to_string(i), storages[i]});
  }
  entries.push_back({"model/version", "3\n"});
  return entries;
}

/// The older form; storages in the order of `keys`.
inline std::string make_legacy(const std::string& object, const std::vector<std::string>& keys,
                               const std::vector<std::string>& storages, uint64_t element_bytes) {
  PickleBuilder magic;
  magic.op('\x8a').op(10).raw(std::string("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10));
  PickleBuilder system;
  system.op('}').op('(').str("protocol_version").integer(1001);
  system.str("little_endian").op('\x88').op('u');
  PickleBuilder order;
  order.op(']').op('(');
  for (const std::string& key : keys) {
    order.str(key);
  }
  order.op('e');
  std::string out =
      magic.stop() + PickleBuilder().integer(1001).stop() + system.stop() + object + order.stop();
  for (const std::string& storage : storages) {
    out += le<uint64_t>(storage.size() / element_bytes) + storage;
  }
  return out;
}

/// 0, 1, 2, ... as raw float32.
inline std::string counting_floats(size_t n, float first = 0) {
  std::string out;
  for (size_t i = 0; i < n; ++i) {
    out += le(first + static_cast<float>(i));
  }
  return out;
}

}  // namespace rwkv::test
