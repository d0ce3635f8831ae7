// Packed files of every format version that loads, kept as bytes (tests/formats/golden): readers
// read them, and the writer writes the newest of them again, so that the layout cannot change
// unseen.
#include <map>

#include "formats/base/checksum.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_tensors.h"
#include "tests/support/catch.h"
#include "tests/support/golden.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Catch::Contains;
using test::golden_file;

struct Golden {
  const char* name;
  uint64_t format;
  uint64_t xxh64;
  size_t n_tensors;
};
// As in the folder's README.
constexpr Golden kGolden[] = {
    {"format2-v5.2-f16.gguf", 2, 0xfd24bfbaaedc3471, 28},
    {"format2-v7-i8_row.gguf", 2, 0x47c58f39ba80a98b, 36},
    {"format2-v6-lite.gguf", 2, 0x09e866c0a3793c4d, 48},
    {"format3-v5.2-f16.gguf", 3, 0x5b4e49304482376a, 28},
    {"format3-v7-i8_row.gguf", 3, 0x13ab45dcb84cd2d9, 36},
    {"format3-tiny-v5.2-mm8.gguf", 3, 0xd31937588c8a8a31, 28},
    {"format3-tiny-v6.gguf", 3, 0x16612598fd1a557d, 43},
    {"format3-tiny-v7-lut4.gguf", 3, 0xbe3236140c46cb11, 36},
};

struct Tensor {
  PackedTensor packed;
  std::vector<std::byte> bytes;
};

// The tensors by name, each checked against its checksum.
std::map<std::string, Tensor> tensors_of(const std::string& name) {
  const std::vector<std::byte> bytes = test::read_bytes(golden_file(name));
  const auto file = GgufFile::parse(bytes, name);
  REQUIRE_OK(file.status());
  const auto packed = packed_tensors(file.value());
  REQUIRE_OK(packed.status());
  std::map<std::string, Tensor> tensors;
  for (const PackedTensor& tensor : packed.value()) {
    const auto data = std::span(bytes).subspan(tensor.offset, tensor.n_bytes);
    REQUIRE_OK(verify_tensor(tensor, data));
    tensors[tensor.name] = {tensor, {data.begin(), data.end()}};
  }
  return tensors;
}

TEST_CASE("Golden files are those that were recorded, and all their tensors are read") {
  for (const Golden& golden : kGolden) {
    INFO(golden.name);
    const std::vector<std::byte> bytes = test::read_bytes(golden_file(golden.name));
    CHECK(fmt::format("{:016x}", xxh64(bytes)) == fmt::format("{:016x}", golden.xxh64));
    const auto file = GgufFile::parse(bytes, golden.name);
    REQUIRE_OK(file.status());
    CHECK(file.value().metadata().get_u64(keys::kFormat).value() == golden.format);
    CHECK(tensors_of(golden.name).size() == golden.n_tensors);
  }
}

TEST_CASE("Format 2 holds the same tensors as format 3") {
  for (const std::string model : {"v5.2-f16", "v7-i8_row"}) {
    const auto older = tensors_of("format2-" + model + ".gguf");
    const auto newer = tensors_of("format3-" + model + ".gguf");
    REQUIRE(older.size() == newer.size());
    for (const auto& [name, tensor] : older) {
      INFO(model << " " << name);
      const Tensor& other = newer.at(name);
      CHECK(tensor.packed.codec == other.packed.codec);
      CHECK(tensor.packed.shape == other.packed.shape);
      CHECK(tensor.bytes == other.bytes);
    }
  }
}

TEST_CASE("Format 2 in mm8 is refused by name") {
  const std::string name = "format2-v5.2-mm8.gguf";
  const std::vector<std::byte> bytes = test::read_bytes(golden_file(name));
  const auto file = GgufFile::parse(bytes, name);
  REQUIRE_OK(file.status());
  const Status status = packed_tensors(file.value()).status();
  REQUIRE(status.code() == Code::BadInput);
  REQUIRE_THAT(status.message(), Contains(name) && Contains("mm8") && Contains("version 2") &&
                                     Contains("convert the original checkpoint again"));
}

TEST_CASE("The writer makes the golden files of the newest format, byte for byte") {
  const test::ScratchFolder scratch;
  for (const test::GoldenTinyModel& model : test::golden_tiny_models()) {
    INFO(model.file);
    const std::string path = test::write_tiny_model(scratch, model.options, model.file);
    CHECK((test::read_bytes(path) == test::read_bytes(golden_file(model.file))));
  }
}

// By hand, after a change of the layout that gets a new format version: the folder's README.
TEST_CASE("Write the golden files of tiny models", "[.write_golden]") {
  const test::ScratchFolder scratch;
  for (const test::GoldenTinyModel& model : test::golden_tiny_models()) {
    const std::string path = test::write_tiny_model(scratch, model.options, model.file);
    test::write_bytes(golden_file(model.file), test::read_bytes(path));
  }
}

}  // namespace
}  // namespace rwkv
