// Packed from the layout of another program, a model has the bytes and the logits of the plain one.
#include <filesystem>

#include "formats/container/gguf_reader.h"
#include "formats/container/packed_keys.h"
#include "tests/compressor/foreign_files.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

// Everything but what names the source: its file, format, checksum, and the order of its tensors.
void check_same_packed(const std::string& a, const std::string& b) {
  const std::vector<std::byte> bytes_a = read_bytes(a);
  const std::vector<std::byte> bytes_b = read_bytes(b);
  const auto file_a = GgufFile::parse(bytes_a, a);
  const auto file_b = GgufFile::parse(bytes_b, b);
  REQUIRE_OK(file_a.status());
  REQUIRE_OK(file_b.status());
  const auto& entries = file_a.value().metadata().entries();
  REQUIRE(entries.size() == file_b.value().metadata().entries().size());
  for (const auto& [key, value] : entries) {
    const bool is_source = key == keys::kSourceFile || key == keys::kSourceFormat ||
                           key == keys::kSourceXxh64 || key == keys::kSourceOrder;
    const GgufValue* other = file_b.value().metadata().find(key);
    INFO(key);
    REQUIRE(other != nullptr);
    CHECK((is_source || value.value == other->value));
  }
  const auto& tensors_a = file_a.value().tensors();
  const auto& tensors_b = file_b.value().tensors();
  REQUIRE(tensors_a.size() == tensors_b.size());
  for (size_t i = 0; i < tensors_a.size(); ++i) {
    CHECK(tensors_a[i].name == tensors_b[i].name);
  }
  // The tensors themselves are the end of the file, in the same order.
  const size_t begin_a = tensors_a.front().offset;
  const size_t begin_b = tensors_b.front().offset;
  REQUIRE(bytes_a.size() - begin_a == bytes_b.size() - begin_b);
  CHECK(std::equal(bytes_a.begin() + static_cast<std::ptrdiff_t>(begin_a), bytes_a.end(),
                   bytes_b.begin() + static_cast<std::ptrdiff_t>(begin_b)));
}

struct ForeignLayout {
  std::string arch;
  std::function<void(const std::string& folder, const RawTensors& plain)> write;
};

std::vector<ForeignLayout> layouts() {
  const auto whole = [](const std::string& ending, auto change) {
    return [=](const std::string& folder, const RawTensors& plain) {
      write_raw(folder + "/model" + ending, change(plain));
    };
  };
  const auto parts = [](const std::string& ending, auto change) {
    return [=](const std::string& folder, const RawTensors& plain) {
      write_parts(folder, "model", ending, 3, change(plain));
    };
  };
  const auto fla7 = [](const RawTensors& plain) { return to_fla7(plain, Mixing::Separate); };
  const auto joint = [](const RawTensors& plain) { return to_fla7(plain, Mixing::Joint); };
  const auto web = [](const RawTensors& plain) { return to_web_rwkv(plain, Small::Transposed); };
  const auto wrapped = [](const RawTensors& plain) {
    return with_prefix(plain, "_forward_module.");
  };
  return {{"v4", whole(".safetensors", to_hugging_face)},
          {"v5.0", parts(".bin", to_hugging_face)},
          {"v5.2", parts(".safetensors", to_hugging_face)},
          {"v5.2", whole(".st", web)},
          {"v6", parts(".bin", to_hugging_face)},
          {"v6", whole(".safetensors", to_fla6)},
          {"v6", whole(".st", web)},
          {"v7", parts(".safetensors", fla7)},
          {"v7", whole(".safetensors", joint)},
          {"v7", whole(".st", web)},
          {"v7", whole(".pth", wrapped)}};
}

}  // namespace

TEST_CASE("Packed files do not depend on the names in the checkpoint", "[names]") {
  const std::vector<int32_t> tokens = {34, 105, 110, 7, 200, 31, 99, 99, 1, 255};
  for (const ForeignLayout& layout : layouts()) {
    for (const char* preset : {"fp32", "int8"}) {
      INFO(layout.arch << " " << preset);
      const ScratchFolder scratch;
      const RawTensors plain = plain_model(layout.arch, "f16", 128);
      write_raw(scratch.file("plain.pth"), plain);
      std::filesystem::create_directory(scratch.file("theirs"));
      layout.write(scratch.file("theirs"), plain);
      const Conversion how = {preset, "bytes", {}};
      const auto a = convert_and_open(scratch.file("plain.pth"), scratch.file("a.gguf"), how);
      const auto b = convert_and_open(scratch.file("theirs"), scratch.file("b.gguf"), how);
      check_same_packed(scratch.file("a.gguf"), scratch.file("b.gguf"));
      CHECK(all_logits(a, tokens, 1) == all_logits(b, tokens, 1));
    }
  }
}
