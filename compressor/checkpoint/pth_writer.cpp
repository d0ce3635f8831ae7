#include "compressor/checkpoint/pth_writer.h"

#include <array>
#include <limits>
#include <unordered_set>

#include "compressor/checkpoint/pickle_value.h"
#include "compressor/checkpoint/zip_writer.h"
#include "formats/base/little_endian.h"

namespace rwkv::press {
namespace {

// Opcodes of pickle protocol 2, the one that torch's restricted loader reads.
class PickleWriter {
 public:
  PickleWriter() { out_ = "\x80\x02"; }

  void opcode(char code) { out_.push_back(code); }

  /// `name` is "module.attribute".
  void global(std::string_view name) {
    const size_t dot = name.rfind('.');
    opcode('c');
    out_.append(name.substr(0, dot)).append("\n").append(name.substr(dot + 1)).append("\n");
  }

  void string(std::string_view text) {
    opcode('X');
    append(static_cast<uint32_t>(text.size()));
    out_.append(text);
  }

  void integer(uint64_t value) {
    if (value <= static_cast<uint64_t>(std::numeric_limits<int32_t>::max())) {
      opcode('J');
      append(static_cast<uint32_t>(value));
    } else {
      opcode('\x8a');
      opcode(8);
      append(value);
    }
  }

  void tuple(std::span<const uint64_t> values) {
    opcode('(');
    for (const uint64_t value : values) {
      integer(value);
    }
    opcode('t');
  }

  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(out_)); }

 private:
  template <typename T>
  void append(T value) {
    std::array<std::byte, sizeof(T)> bytes;
    store_le(bytes.data(), value);
    out_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  std::string out_;
};

// _rebuild_tensor_v2(storage, 0, shape, strides, requires_grad=False, hooks=OrderedDict())
void append_tensor(PickleWriter& pickle, const TensorInfo& info, size_t index) {
  std::vector<uint64_t> strides(info.shape.size(), 1);
  for (size_t i = strides.size(); i > 1; --i) {
    strides[i - 2] = strides[i - 1] * info.shape[i - 1];
  }
  pickle.global("torch._utils._rebuild_tensor_v2");
  pickle.opcode('(');
  pickle.opcode('(');
  pickle.string("storage");
  pickle.global(storage_class_of(info.dtype)->name);
  pickle.string(std::to_string(index));
  pickle.string("cpu");
  pickle.integer(info.n_elements());
  pickle.opcode('t');
  pickle.opcode('Q');
  pickle.integer(0);
  pickle.tuple(info.shape);
  pickle.tuple(strides);
  pickle.opcode('\x89');  // NEWFALSE
  pickle.global("collections.OrderedDict");
  pickle.opcode(')');
  pickle.opcode('R');
  pickle.opcode('t');
  pickle.opcode('R');
}

PickleWriter make_pickle(std::span<const TensorInfo> tensors) {
  PickleWriter pickle;
  pickle.global("collections.OrderedDict");
  pickle.opcode(')');
  pickle.opcode('R');
  pickle.opcode('(');
  for (size_t i = 0; i < tensors.size(); ++i) {
    pickle.string(tensors[i].name);
    append_tensor(pickle, tensors[i], i);
  }
  pickle.opcode('u');  // SETITEMS
  pickle.opcode('.');
  return pickle;
}

Status check_tensors(const std::string& path, std::span<const TensorInfo> tensors) {
  std::unordered_set<std::string_view> names;
  for (const TensorInfo& info : tensors) {
    if (const Status status = check_tensor_size(info); !status.ok()) {
      return status.in(path);
    }
    if (storage_class_of(info.dtype) == nullptr) {
      return usage_error("{}: tensor '{}' is {}, which PyTorch cannot hold; convert it first", path,
                         info.name, traits(info.dtype).name);
    }
    if (!names.insert(info.name).second) {
      return usage_error("{}: tensor '{}' is given twice", path, info.name);
    }
  }
  return {};
}

}  // namespace

Status write_pth(
    const std::string& path, OutputFile::Existing existing, std::span<const TensorInfo> tensors,
    const std::function<Status(size_t index, std::vector<std::byte>& out)>& read_tensor) {
  RWKV_TRY(check_tensors(path, tensors));
  RWKV_ASSIGN(std::unique_ptr<OutputFile> file, OutputFile::create(path, existing));
  ZipWriter zip(*file);
  RWKV_TRY(zip.add("archive/data.pkl", make_pickle(tensors).bytes()));
  RWKV_TRY(zip.add("archive/byteorder", std::as_bytes(std::span("little", 6))));
  std::vector<std::byte> data;
  for (size_t i = 0; i < tensors.size(); ++i) {
    RWKV_TRY(read_tensor(i, data));
    if (data.size() != tensors[i].n_bytes()) {
      return failed("{}: tensor '{}' of shape {} needs {} bytes, {} were given", path,
                    tensors[i].name, shape_to_string(tensors[i].shape), tensors[i].n_bytes(),
                    data.size());
    }
    RWKV_TRY(zip.add(fmt::format("archive/data/{}", i), data));
  }
  RWKV_TRY(zip.add("archive/version", std::as_bytes(std::span("3\n", 2))));
  RWKV_TRY(zip.finish());
  return file->commit();
}

}  // namespace rwkv::press
