// Any bytes as config.json or as the index of a checkpoint in two parts, which the first byte
// chooses: refused, or the checkpoint is opened, identified and read.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "compressor/checkpoint/open.h"
#include "formats/container/safetensors_writer.h"
#include "tests/formats/tensor_lists.h"
#include "tests/support/support.h"

using namespace rwkv;

namespace {

// A folder with both parts, in which the rest is written anew for each input.
class Folder {
 public:
  Folder() {
    const std::vector<TensorInfo> all = test::tensors_of(Version::V6, {.n_layer = 1});
    const auto half = all.begin() + static_cast<ptrdiff_t>(all.size() / 2);
    write_part("model-00001-of-00002.safetensors", {all.begin(), half});
    write_part("model-00002-of-00002.safetensors", {half, all.end()});
  }
  std::string write(const char* name, std::string_view text) const {
    test::write_text(scratch_.file(name), text);
    return scratch_.file(name);
  }
  std::string path() const { return scratch_.path().string(); }

 private:
  void write_part(const char* name, const std::vector<TensorInfo>& infos) const {
    const Status written = write_safetensors(scratch_.file(name), OutputFile::Existing::Refuse,
                                             infos, [&](size_t i, std::vector<std::byte>& out) {
                                               out.assign(infos[i].n_bytes(), std::byte{});
                                               return Status();
                                             });
    if (!written.ok()) {
      std::abort();
    }
  }
  test::ScratchFolder scratch_;
};

void open_all(const std::string& path) {
  const auto opened = press::open_checkpoint(path);
  if (!opened.ok()) {
    return;
  }
  const TensorSource& source = *opened.value().source;
  const auto model = press::identify_checkpoint(source);
  if (model.ok() && describe(model.value().config).empty()) {
    std::abort();
  }
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    if (!source.read(i, bytes).ok() || bytes.size() != source.tensors()[i].n_bytes()) {
      std::abort();
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  if (size == 0) {
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool is_index = data[0] % 2 == 0;
  const std::string written =
      folder.write(is_index ? "model.safetensors.index.json" : "config.json", text);
  open_all(is_index ? written : folder.path());
  std::filesystem::remove(written);
  return 0;
}
