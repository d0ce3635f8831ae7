// The .pth writer: what it writes is read back by the .pth reader, byte by byte the same each
// time, and whole or not at all. That torch.load reads it was checked during development.
#include "compressor/checkpoint/pth_writer.h"

#include <cstring>

#include "compressor/checkpoint/pth_reader.h"
#include "compressor/checkpoint/zip_archive.h"
#include "compressor/checkpoint/zip_writer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv::press {
namespace {

using Catch::Contains;

const std::vector<TensorInfo> kTensors = {{"emb.weight", DType::BF16, {5, 7}},
                                          {"blocks.0.ln1.weight", DType::F32, {7}},
                                          {"blocks.0.att.x", DType::F16, {1, 1, 7}},
                                          {"double", DType::F64, {3}},
                                          {"i8", DType::I8, {2, 2, 2}},
                                          {"u8", DType::U8, {9}},
                                          {"i16", DType::I16, {2}},
                                          {"i32", DType::I32, {2}},
                                          {"i64", DType::I64, {2}},
                                          {"bool", DType::Bool, {3}},
                                          {"scalar", DType::F32, {}},
                                          {"name with spaces and \xc3\xa4", DType::F32, {1}}};

std::vector<std::byte> content(size_t index) {
  std::vector<std::byte> bytes(kTensors[index].n_bytes());
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + index);
  }
  return bytes;
}

Status read_content(size_t index, std::vector<std::byte>& out) {
  out = content(index);
  return {};
}

TEST_CASE("pth writer: what is written is read back") {
  const test::ScratchFolder scratch;
  const std::string path = scratch.file("a.pth");
  REQUIRE_OK(write_pth(path, OutputFile::Existing::Refuse, kTensors, read_content));
  auto opened = open_pth(path);
  REQUIRE_OK(opened.status());
  const TensorSource& source = *opened.value();
  REQUIRE(source.tensors().size() == kTensors.size());
  for (size_t i = 0; i < kTensors.size(); ++i) {
    REQUIRE(source.tensors()[i].name == kTensors[i].name);
    REQUIRE(source.tensors()[i].dtype == kTensors[i].dtype);
    REQUIRE(source.tensors()[i].shape == kTensors[i].shape);
    std::vector<std::byte> out;
    REQUIRE_OK(source.read(i, out));
    REQUIRE(out == content(i));
  }
  REQUIRE(scratch.entries() == std::vector<std::string>{"a.pth"});
}

TEST_CASE("pth writer: same tensors, same bytes, data aligned as torch does") {
  const test::ScratchFolder scratch;
  for (const char* name : {"a.pth", "b.pth"}) {
    REQUIRE_OK(write_pth(scratch.file(name), OutputFile::Existing::Refuse, kTensors, read_content));
  }
  REQUIRE(test::read_bytes(scratch.file("a.pth")) == test::read_bytes(scratch.file("b.pth")));
  auto file = InputFile::open(scratch.file("a.pth"));
  REQUIRE_OK(file.status());
  const auto archive = ZipArchive::open(file.take());
  REQUIRE_OK(archive.status());
  REQUIRE(archive.value()->records().size() == kTensors.size() + 3);
  for (const ZipRecord& record : archive.value()->records()) {
    REQUIRE(record.data_offset % 64 == 0);
    REQUIRE_FALSE(record.deflated);
  }
}

TEST_CASE("pth writer: failures leave nothing behind") {
  const test::ScratchFolder scratch;
  const std::string path = scratch.file("a.pth");
  const auto write = [&](const std::vector<TensorInfo>& tensors, auto read) {
    return write_pth(path, OutputFile::Existing::Refuse, tensors, read);
  };
  const Status short_data = write(kTensors, [](size_t, std::vector<std::byte>& out) {
    out.assign(3, std::byte{0});
    return Status();
  });
  REQUIRE_THAT(short_data.message(), Contains("'emb.weight' of shape 5x7 needs 70 bytes, 3"));
  const Status broken =
      write(kTensors, [](size_t, std::vector<std::byte>&) { return failed("disk on fire"); });
  REQUIRE(broken.message() == "disk on fire");
  REQUIRE(write({{"q", DType::Q4_0, {32}}}, read_content).code() == Code::Usage);
  REQUIRE(write({{"a", DType::F32, {1}}, {"a", DType::F32, {1}}}, read_content).code() ==
          Code::Usage);
  REQUIRE_FALSE(write({{"a", DType::F32, {1ull << 62, 4}}}, read_content).ok());
  REQUIRE(scratch.entries().empty());

  test::write_text(path, "precious");
  REQUIRE(write(kTensors, read_content).code() == Code::Usage);
  REQUIRE(test::read_bytes(path).size() == 8);
  REQUIRE_OK(write_pth(path, OutputFile::Existing::Replace, kTensors, read_content));
  REQUIRE(test::read_bytes(path).size() > 1000);
}

TEST_CASE("pth writer: zip64 records are read back") {
  const test::ScratchFolder scratch;
  const std::string path = scratch.file("a.zip");
  auto file = OutputFile::create(path, OutputFile::Existing::Refuse);
  REQUIRE_OK(file.status());
  ZipWriter zip(*file.value(), 100);  // as if 100 bytes were the limit of 32-bit numbers
  const std::string small(99, 's');
  const std::string large(1000, 'l');
  REQUIRE_OK(zip.add("small", test::as_bytes(small)));
  REQUIRE_OK(zip.add("large", test::as_bytes(large)));
  REQUIRE_OK(zip.add("far", test::as_bytes(small)));
  REQUIRE_OK(zip.finish());
  REQUIRE_OK(file.value()->commit());
  auto input = InputFile::open(path);
  REQUIRE_OK(input.status());
  const auto archive = ZipArchive::open(input.take());
  REQUIRE_OK(archive.status());
  for (const auto& [name, wanted] : {std::pair("small", small), {"large", large}, {"far", small}}) {
    const auto found = archive.value()->read_all(archive.value()->find(name), 1000);
    REQUIRE_OK(found.status());
    REQUIRE(std::memcmp(found.value().data(), wanted.data(), wanted.size()) == 0);
  }
}

TEST_CASE("pth writer: more records than 16 bits count") {
  const test::ScratchFolder scratch;
  const std::string path = scratch.file("a.zip");
  auto file = OutputFile::create(path, OutputFile::Existing::Refuse);
  REQUIRE_OK(file.status());
  ZipWriter zip(*file.value());
  for (int i = 0; i < 65'537; ++i) {
    REQUIRE_OK(zip.add(std::to_string(i), {}));
  }
  REQUIRE_OK(zip.finish());
  REQUIRE_OK(file.value()->commit());
  auto input = InputFile::open(path);
  REQUIRE_OK(input.status());
  const auto archive = ZipArchive::open(input.take());
  REQUIRE_OK(archive.status());
  REQUIRE(archive.value()->records().size() == 65'537);
  REQUIRE(archive.value()->find("65536") != SIZE_MAX);
}

}  // namespace
}  // namespace rwkv::press
