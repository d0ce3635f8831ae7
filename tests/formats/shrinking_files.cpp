// Files that become shorter while they are read: a status, never a signal, where they are read; and
// where they are mapped, a handler can tell which file an address belongs to.
#include <filesystem>

#include "formats/base/file.h"
#include "formats/base/mapped_files.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/gguf_writer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Catch::Contains;

std::string write_gguf(const test::ScratchFolder& folder, size_t n_strings) {
  const std::string path = folder.file("a.gguf");
  GgufMetadata metadata;
  metadata.set("strings", GgufValue::strings(std::vector<std::string>(n_strings, "a word")));
  auto writer = GgufWriter::create(path, OutputFile::Existing::Replace, metadata,
                                   {{"w", GgmlType::F32, {8}, 32}});
  REQUIRE_OK(writer.status());
  REQUIRE_OK(writer.value()->append(std::vector<std::byte>(32)));
  REQUIRE_OK(writer.value()->finish());
  return path;
}

}  // namespace

TEST_CASE("A GGUF header is read as it is mapped", "[shrinking]") {
  const test::ScratchFolder folder;
  // Shorter and much longer than what is read at first.
  for (const size_t n_strings : {size_t{1}, size_t{200'000}}) {
    const std::string path = write_gguf(folder, n_strings);
    const auto input = InputFile::open(path);
    REQUIRE_OK(input.status());
    const auto read = GgufFile::read(*input.value());
    REQUIRE_OK(read.status());
    const auto parsed = GgufFile::parse(test::read_bytes(path), path);
    REQUIRE_OK(parsed.status());
    REQUIRE(read.value().metadata().get_strings("strings").value()->size() == n_strings);
    REQUIRE(read.value().tensors()[0].offset == parsed.value().tensors()[0].offset);
  }
}

TEST_CASE("A GGUF file that is cut before or after it was opened is refused", "[shrinking]") {
  const test::ScratchFolder folder;
  const std::string path = write_gguf(folder, 100'000);
  const uint64_t size = std::filesystem::file_size(path);
  const auto whole = InputFile::open(path);
  REQUIRE_OK(whole.status());
  for (const uint64_t left : {size - 1, size / 2, uint64_t{300'000}, uint64_t{10}, uint64_t{0}}) {
    CAPTURE(left);
    std::filesystem::resize_file(path, left);
    const auto input = InputFile::open(path);
    REQUIRE_OK(input.status());
    REQUIRE(GgufFile::read(*input.value()).status().code() == Code::BadInput);
    if (left < size / 2) {
      const Status status = GgufFile::read(*whole.value()).status();
      REQUIRE_THAT(status.message(), Contains("became shorter while it was read"));
    }
  }
}

TEST_CASE("A mapped file is known by its addresses, as long as it is mapped", "[shrinking]") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("a\x1b[31m.bin");
  test::write_text(path, std::string(100'000, 'a'));
  const std::byte* begin = nullptr;
  {
    const auto mapping = MappedFile::open(path);
    REQUIRE_OK(mapping.status());
    begin = mapping.value()->bytes().data();
    REQUIRE(mapped_file_at(begin) != nullptr);
    REQUIRE_THAT(mapped_file_at(begin + 99'999), Contains("a\\x1b[31m.bin"));
    REQUIRE(mapped_file_at(&path) == nullptr);
  }
  REQUIRE(mapped_file_at(begin) == nullptr);
  // More than are remembered still open.
  std::vector<std::shared_ptr<MappedFile>> many;
  for (int i = 0; i < 100; ++i) {
    auto mapping = MappedFile::open(path);
    REQUIRE_OK(mapping.status());
    many.push_back(mapping.take());
  }
}

}  // namespace rwkv
