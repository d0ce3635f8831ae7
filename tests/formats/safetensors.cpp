// safetensors: what is written is read back, and nothing that breaks the format's rules is read.
#include <cstring>
#include <string>
#include <vector>

#include "formats/base/little_endian.h"
#include "formats/container/safetensors_reader.h"
#include "formats/container/safetensors_writer.h"
#include "tests/formats/damaged_files.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv {
namespace {

using test::ScratchFolder;

// A file with this header and `data_bytes` bytes 0, 1, 2, ...
std::vector<std::byte> file_with(const std::string& header, size_t data_bytes) {
  std::vector<std::byte> bytes(8);
  store_le<uint64_t>(bytes.data(), header.size());
  const auto text = test::as_bytes(header);
  bytes.insert(bytes.end(), text.begin(), text.end());
  for (size_t i = 0; i < data_bytes; ++i) {
    bytes.push_back(static_cast<std::byte>(i));
  }
  return bytes;
}

Status open_status(std::span<const std::byte> bytes) {
  const ScratchFolder folder;
  const std::string path = folder.file("model.safetensors");
  test::write_bytes(path, bytes);
  return open_safetensors(path).status();
}

std::string refusal(const std::string& header, size_t data_bytes) {
  const Status status = open_status(file_with(header, data_bytes));
  REQUIRE(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains("model.safetensors"));
  INFO(status.message());
  CHECK(test::says_what_to_do(status.message()));
  return status.message();
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return fmt::format("\"{}\":{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":{}}}", name, dtype,
                     shape, offsets);
}

const std::vector<TensorInfo>& some_tensors() {
  static const std::vector<TensorInfo> kTensors = {
      {"emb.weight", DType::BF16, {8, 4}},
      {"a \"quoted\\name\"", DType::F32, {3}},
      {"scalar", DType::F64, {}},
      {"mask", DType::Bool, {1, 5, 1}},
      {"i64", DType::I64, {2}},
  };
  return kTensors;
}

Status write_some(const std::string& path, OutputFile::Existing existing) {
  return write_safetensors(path, existing, some_tensors(),
                           [&](size_t index, std::vector<std::byte>& out) {
                             out.resize(some_tensors()[index].n_bytes());
                             for (size_t i = 0; i < out.size(); ++i) {
                               out[i] = static_cast<std::byte>(index * 50 + i);
                             }
                             return Status();
                           });
}

}  // namespace

TEST_CASE("safetensors are read as they were written", "[safetensors]") {
  const ScratchFolder folder;
  const std::string path = folder.file("out.safetensors");
  REQUIRE_OK(write_some(path, OutputFile::Existing::Refuse));
  auto opened = open_safetensors(path);
  REQUIRE_OK(opened.status());
  const TensorSource& source = *opened.value();
  CHECK(source.format() == "safetensors");
  REQUIRE(source.tensors().size() == some_tensors().size());
  for (size_t i = 0; i < some_tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    CHECK(info.name == some_tensors()[i].name);
    CHECK(info.dtype == some_tensors()[i].dtype);
    CHECK(info.shape == some_tensors()[i].shape);
    std::vector<std::byte> bytes;
    REQUIRE_OK(source.read(i, bytes));
    REQUIRE(bytes.size() == info.n_bytes());
    CHECK(bytes.front() == static_cast<std::byte>(i * 50));
    std::vector<std::byte> part(bytes.size() - 3);
    REQUIRE_OK(source.read_range(i, 2, part));
    CHECK(std::equal(part.begin(), part.end(), bytes.begin() + 2));
    CHECK_FALSE(source.read_range(i, 4, part).ok());
  }
}

TEST_CASE("safetensors are written with the same bytes every time", "[safetensors]") {
  const ScratchFolder folder;
  REQUIRE_OK(write_some(folder.file("a"), OutputFile::Existing::Refuse));
  REQUIRE_OK(write_some(folder.file("b"), OutputFile::Existing::Refuse));
  const auto a = test::read_bytes(folder.file("a"));
  CHECK(a == test::read_bytes(folder.file("b")));
  CHECK(load_le<uint64_t>(a.data()) % 8 == 0);
  CHECK_FALSE(write_some(folder.file("a"), OutputFile::Existing::Refuse).ok());
  REQUIRE_OK(write_some(folder.file("a"), OutputFile::Existing::Replace));
}

TEST_CASE("the safetensors writer refuses what it cannot store and leaves nothing behind",
          "[safetensors]") {
  const ScratchFolder folder;
  const auto write = [&](std::vector<TensorInfo> tensors, size_t bytes) {
    return write_safetensors(folder.file("out"), OutputFile::Existing::Refuse, tensors,
                             [&](size_t, std::vector<std::byte>& out) {
                               out.resize(bytes);
                               return Status();
                             });
  };
  CHECK(write({{"x", DType::Q5_1, {32}}}, 24).code() == Code::Usage);
  CHECK(write({{"x", DType::I8, {1}}, {"x", DType::I8, {1}}}, 1).code() == Code::Usage);
  CHECK(write({{"", DType::I8, {1}}}, 1).code() == Code::Usage);
  CHECK(write({{"__metadata__", DType::I8, {1}}}, 1).code() == Code::Usage);
  CHECK(write({{"line\nbreak", DType::I8, {1}}}, 1).code() == Code::Usage);
  CHECK(write({{"x", DType::I8, {0}}}, 0).code() == Code::BadInput);
  CHECK(write({{"x", DType::I8, {4}}}, 3).code() == Code::Failed);
  CHECK(folder.entries().empty());
}

TEST_CASE("safetensors are listed in the order of their data, with metadata", "[safetensors]") {
  const ScratchFolder folder;
  const std::string path = folder.file("model.safetensors");
  test::write_bytes(path, file_with("{\"__metadata__\":{\"format\":\"pt\"}," +
                                        entry("second", "U8", "[2,2]", "[4,8]") + "," +
                                        entry("first", "F32", "[1]", "[0,4]") + "}   ",
                                    8));
  auto opened = open_safetensors(path);
  REQUIRE_OK(opened.status());
  REQUIRE(opened.value()->tensors().size() == 2);
  CHECK(opened.value()->tensors()[0].name == "first");
  CHECK(opened.value()->tensors()[1].name == "second");
  CHECK(opened.value()->metadata().at("format") == "pt");
  std::vector<std::byte> bytes;
  REQUIRE_OK(opened.value()->read(1, bytes));
  CHECK(bytes[0] == std::byte{4});
}

TEST_CASE("safetensors with broken offsets are refused", "[safetensors]") {
  using Catch::Contains;
  const std::string four = entry("a", "U8", "[4]", "[0,4]");
  CHECK_THAT(refusal("{" + four + "," + entry("b", "U8", "[4]", "[2,6]") + "}", 6),
             Contains("overlaps") && Contains("tensor b"));
  CHECK_THAT(refusal("{" + four + "," + entry("b", "U8", "[4]", "[0,4]") + "}", 4),
             Contains("overlaps"));
  CHECK_THAT(refusal("{" + four + "," + entry("b", "U8", "[4]", "[5,9]") + "}", 9),
             Contains("hole"));
  CHECK_THAT(refusal("{" + four + "}", 5), Contains("after the last tensor"));
  CHECK_THAT(refusal("{" + four + "}", 3), Contains("was cut"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[4]", "[4,0]") + "}", 4), Contains("not within"));
  CHECK_THAT(refusal("{" + entry("a", "F32", "[2]", "[0,4]") + "}", 4), Contains("needs 8 bytes"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[18446744073709551615]", "[0,4]") + "}", 4),
             Contains("memory"));
  CHECK_THAT(refusal("{" + entry("a", "F32", "[4294967296,4294967296,16]", "[0,4]") + "}", 4),
             Contains("more elements"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[0]", "[0,0]") + "}", 0), Contains("placeholder"));
}

TEST_CASE("safetensors with another structure are refused", "[safetensors]") {
  using Catch::Contains;
  const std::string four = entry("a", "U8", "[4]", "[0,4]");
  CHECK_THAT(refusal("{" + four + "," + four + "}", 4), Contains("twice"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}," + four + "}", 4),
             Contains("twice"));
  CHECK_THAT(refusal("{\"__metadata__\":{\"k\":1}," + four + "}", 4), Contains("a number"));
  CHECK_THAT(refusal("{\"__metadata__\":\"k\"," + four + "}", 4), Contains("a string"));
  CHECK_THAT(refusal("{" + entry("a", "F8_E4M3", "[4]", "[0,4]") + "}", 4), Contains("F8_E4M3"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[4]", "[0,4,8]") + "}", 4), Contains("more than 2"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[4]", "[0]") + "}", 4), Contains("two data_offsets"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[1,1,1,1,1,1,1,1,4]", "[0,4]") + "}", 4),
             Contains("dimensions"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[-4]", "[0,4]") + "}", 4), Contains("negative"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[4.0]", "[0,4]") + "}", 4), Contains("fraction"));
  CHECK_THAT(refusal("{" + entry("a", "U8", "[[4]]", "[0,4]") + "}", 4), Contains("an array"));
  CHECK_THAT(refusal("{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4), Contains("tensor a"));
  CHECK_THAT(refusal("{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 4), Contains("twice"));
  CHECK_THAT(refusal("{\"a\":{\"more\":\"U8\"}}", 4), Contains("a key that is not"));
  CHECK_THAT(refusal("{\"a\":null}", 4), Contains("null"));
  CHECK_THAT(refusal("{\"a\\u0007b\":{}}", 4), Contains("unprintable"));
  CHECK_THAT(refusal("[]", 4), Contains("'{'"));
  CHECK_THAT(refusal("", 0), Contains("'{'"));
  CHECK_THAT(refusal("{" + four, 4), Contains("not valid JSON"));
  CHECK_THAT(refusal("{" + four + "} x", 4), Contains("not valid JSON"));
  CHECK_THAT(refusal("{\"\xff\":{}}", 4), Contains("not valid JSON"));
  CHECK_THAT(refusal("{\"a\":" + std::string(100000, '{'), 4), Contains("not valid JSON"));
}

TEST_CASE("safetensors with an absurd header length are refused", "[safetensors]") {
  std::vector<std::byte> bytes = file_with("{}", 0);
  REQUIRE_OK(open_status(bytes));
  for (const uint64_t length : {uint64_t{3}, uint64_t{100'000'001}, ~uint64_t{0}, ~uint64_t{7}}) {
    store_le<uint64_t>(bytes.data(), length);
    const Status status = open_status(bytes);
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains("was cut"));
  }
  CHECK(open_status(std::span(bytes).first(7)).code() == Code::BadInput);
  CHECK(open_status({}).code() == Code::BadInput);
  CHECK_FALSE(open_safetensors("/nonexistent/model.safetensors").ok());
}

TEST_CASE("damaged safetensors never do worse than a status", "[safetensors]") {
  const ScratchFolder folder;
  REQUIRE_OK(write_some(folder.file("good"), OutputFile::Existing::Refuse));
  const std::vector<std::byte> good = test::read_bytes(folder.file("good"));
  test::check_every_cut_is_refused(good, open_safetensors);
  test::check_bit_flips(good, open_safetensors);
}

}  // namespace rwkv
