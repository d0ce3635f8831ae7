// GGUF from hands that mean harm or slipped: files made byte by byte, cut and flipped. The reader
// must say what is wrong, and never read or allocate on the word of a number in the file.
#include <random>

#include "formats/base/little_endian.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/gguf_writer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv {
namespace {

using Catch::Contains;
using Bytes = std::vector<std::byte>;

constexpr uint64_t kMax = ~uint64_t{0};
constexpr uint64_t kAlignment = 32;

// A file as GGUF's specification lays it out, with any number in any place.
class FileBuilder {
 public:
  FileBuilder(uint64_t n_tensors, uint64_t n_entries, uint32_t version = 3,
              std::string_view magic = "GGUF") {
    raw(magic).number(version).number(n_tensors).number(n_entries);
  }
  template <typename T>
  FileBuilder& number(T value) {
    bytes_.resize(bytes_.size() + sizeof(T));
    store_le(bytes_.data() + bytes_.size() - sizeof(T), value);
    return *this;
  }
  FileBuilder& raw(std::string_view text) {
    const auto from = test::as_bytes(text);
    bytes_.insert(bytes_.end(), from.begin(), from.end());
    return *this;
  }
  FileBuilder& text(std::string_view text) { return number<uint64_t>(text.size()).raw(text); }
  FileBuilder& key(std::string_view name, GgufType type) {
    return text(name).number(static_cast<uint32_t>(type));
  }
  FileBuilder& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                      uint64_t offset) {
    text(name).number(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) {
      number(dim);
    }
    return number(type).number(offset);
  }
  // Padding up to the data, and the data.
  FileBuilder& data(size_t n_bytes) {
    bytes_.resize(align_up(bytes_.size(), kAlignment) + n_bytes);
    return *this;
  }
  Result<GgufFile> parse() const { return GgufFile::parse(bytes_, "bad.gguf"); }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

std::string refused(const FileBuilder& file) {
  const Status status = file.parse().status();
  REQUIRE(status.code() == Code::BadInput);
  REQUIRE_THAT(status.message(), Contains("bad.gguf"));
  INFO(status.message());
  CHECK(test::says_what_to_do(status.message()));
  return status.message();
}

constexpr uint32_t kF32 = static_cast<uint32_t>(GgmlType::F32);

// A file with one of everything, whose last byte belongs to a tensor.
Bytes good_file() {
  const test::ScratchFolder folder;
  GgufMetadata metadata;
  metadata.set("general.architecture", GgufValue::string("rwkv"));
  metadata.set("general.alignment", GgufValue::u32(kAlignment));
  metadata.set("numbers", GgufValue::i32s({1, -2, 3}));
  metadata.set("strings", GgufValue::strings({"a", "", "bcd"}));
  metadata.set("eps", GgufValue::f32(0.5f));
  metadata.set("flag", GgufValue::boolean(true));
  const std::string path = folder.file("good.gguf");
  auto writer = GgufWriter::create(path, OutputFile::Existing::Refuse, metadata,
                                   {{"first", GgmlType::F16, {3, 5}, 30},
                                    {"second", GgmlType::I8, {7}, 7},
                                    {"third", GgmlType::F32, {8, 4}, 128}});
  REQUIRE_OK(writer.status());
  REQUIRE_OK(writer.value()->append(Bytes(165, std::byte{0x7e})));
  REQUIRE_OK(writer.value()->finish());
  return test::read_bytes(path);
}

}  // namespace

TEST_CASE("GgufFile reads files made by hand") {
  FileBuilder file(2, 1, 2);
  file.key("k", GgufType::Bool).number<uint8_t>(7);
  file.tensor("scalar", {}, kF32, 0).tensor("t", {2, 3}, kF32, 32).data(56);
  const auto parsed = file.parse();
  REQUIRE_OK(parsed.status());
  REQUIRE(parsed.value().find("scalar")->n_bytes == 4);
  REQUIRE(parsed.value().find("t")->offset + 24 == file.bytes().size());
}

TEST_CASE("GgufFile refuses other magics and versions") {
  REQUIRE_THAT(refused(FileBuilder(0, 0, 3, "GGML")), Contains("expected a packed model"));
  REQUIRE_FALSE(looks_like_gguf(test::as_bytes("GGM")));
  REQUIRE_FALSE(looks_like_gguf({}));
  // 0x03000000 is version 3 of a big-endian file.
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u, 0xffffffffu}) {
    REQUIRE_THAT(refused(FileBuilder(0, 0, version)), Contains(std::to_string(version)));
  }
  REQUIRE(GgufFile::parse({}, "empty").status().code() == Code::BadInput);
}

TEST_CASE("GgufFile refuses counts that the file cannot hold") {
  for (const uint64_t count : {uint64_t{1}, uint64_t{1000}, uint64_t{1} << 32, kMax / 8, kMax}) {
    REQUIRE_THAT(refused(FileBuilder(count, 0)), Contains(std::to_string(count)));
    REQUIRE_THAT(refused(FileBuilder(0, count)), Contains(std::to_string(count)));
  }
  for (uint32_t element = 0; element < kGgufTypeCount; ++element) {
    for (const uint64_t count : {uint64_t{100}, uint64_t{1} << 40, kMax / 8 + 1, kMax}) {
      FileBuilder file(0, 1);
      file.key("list", GgufType::Array).number(element).number(count).number<uint64_t>(0);
      REQUIRE_THAT(refused(file), Contains("'list'"));
    }
  }
}

TEST_CASE("GgufFile refuses strings that pass the end") {
  for (const uint64_t length : {uint64_t{9}, uint64_t{1} << 32, kMax - 7, kMax}) {
    FileBuilder value(0, 1);
    value.key("text", GgufType::String).number(length).raw("12345678");
    refused(value);
    FileBuilder element(0, 1);
    element.key("texts", GgufType::Array).number(static_cast<uint32_t>(GgufType::String));
    element.number<uint64_t>(1).number(length).raw("12345678");
    refused(element);
    const uint64_t longer = length + (length < 1000 ? 1000 : 0);
    FileBuilder key(0, 1);
    key.number(longer).raw("12345678").number<uint64_t>(0);
    refused(key);
    FileBuilder name(1, 0);
    name.number(longer).raw("12345678").data(64);
    refused(name);
  }
  // Lengths that are there, but that no writer has.
  FileBuilder long_key(0, 1);
  long_key.key(std::string(65536, 'k'), GgufType::U8).number<uint8_t>(1);
  REQUIRE_THAT(refused(long_key), Contains("65536") && Contains("65535"));
  FileBuilder long_name(1, 0);
  long_name.tensor(std::string(257, 'n'), {1}, kF32, 0).data(4);
  REQUIRE_THAT(refused(long_name), Contains("257"));
}

TEST_CASE("GgufFile refuses unknown types and arrays of arrays") {
  for (const uint32_t type : {13u, 255u, 0xffffffffu}) {
    FileBuilder scalar(0, 1);
    scalar.text("k").number(type).number<uint64_t>(0);
    REQUIRE_THAT(refused(scalar), Contains("'k'") && Contains(std::to_string(type)));
    FileBuilder element(0, 1);
    element.key("k", GgufType::Array).number(type).number<uint64_t>(0);
    REQUIRE_THAT(refused(element), Contains("'k'") && Contains(std::to_string(type)));
  }
  FileBuilder nested(0, 1);
  nested.key("k", GgufType::Array).number(static_cast<uint32_t>(GgufType::Array));
  nested.number<uint64_t>(0);
  REQUIRE_THAT(refused(nested), Contains("'k'") && Contains("array of arrays"));
  // Types that ggml has but this reader does not, that ggml has dropped, and that do not exist.
  for (const uint32_t type : {4u, 5u, 9u, 15u, 16u, 22u, 29u, 31u, 39u, 1000u, 0xffffffffu}) {
    FileBuilder file(1, 0);
    file.tensor("t", {32}, type, 0).data(512);
    REQUIRE_THAT(refused(file), Contains("'t'") && Contains(fmt::format("type {}", type)));
  }
}

TEST_CASE("GgufFile refuses duplicate keys and tensors") {
  FileBuilder keys(0, 2);
  keys.key("same", GgufType::U8).number<uint8_t>(1);
  keys.key("same", GgufType::String).text("x");
  REQUIRE_THAT(refused(keys), Contains("'same' occurs twice"));
  FileBuilder tensors(2, 0);
  tensors.tensor("same", {1}, kF32, 0).tensor("same", {2}, kF32, 32).data(64);
  REQUIRE_THAT(refused(tensors), Contains("'same' occurs twice"));
}

TEST_CASE("GgufFile refuses shapes that are empty, too large or too deep") {
  const auto with_dims = [](const std::vector<uint64_t>& dims, uint32_t type = kF32) {
    FileBuilder file(1, 0);
    file.tensor("shaped", dims, type, 0).data(64);
    return refused(file);
  };
  REQUIRE_THAT(with_dims({0}), Contains("shaped") && Contains("zero"));
  REQUIRE_THAT(with_dims({4, 0, 4}), Contains("zero"));
  REQUIRE_THAT(with_dims({1, 1, 1, 1, 1}), Contains("5 dimensions"));
  REQUIRE_THAT(with_dims({kMax, 2}), Contains("shaped"));
  REQUIRE_THAT(with_dims({uint64_t{1} << 32, uint64_t{1} << 32}), Contains("shaped"));
  REQUIRE_THAT(with_dims({kMax / 4 + 2}), Contains("shaped"));  // 4 bytes after wrapping around
  REQUIRE_THAT(with_dims({uint64_t{1} << 61}), Contains("shaped"));
  REQUIRE_THAT(with_dims({17}), Contains("ends after the end of the file"));
  REQUIRE_THAT(with_dims({33}, static_cast<uint32_t>(GgmlType::Q8_0)), Contains("divisible by 32"));
  FileBuilder many(1, 0);
  many.text("shaped").number<uint32_t>(0xffffffffu).data(64);
  REQUIRE_THAT(refused(many), Contains("4294967295 dimensions"));
}

TEST_CASE("GgufFile rejects misaligned tensors and those after the end") {
  const auto at_offset = [](uint64_t offset) {
    FileBuilder file(1, 0);
    file.tensor("placed", {4}, kF32, offset).data(96);
    return refused(file);
  };
  REQUIRE_THAT(at_offset(1), Contains("'placed'") && Contains("multiple of 32"));
  REQUIRE_THAT(at_offset(16), Contains("multiple of 32"));
  REQUIRE_THAT(at_offset(96), Contains("'placed'") && Contains("ends after the end of the file"));
  for (const uint64_t offset : {uint64_t{1} << 40, uint64_t{1} << 63, kMax - 31, kMax - 63}) {
    REQUIRE_THAT(at_offset(offset), Contains("ends after the end of the file"));
  }
}

TEST_CASE("GgufFile rejects overlapping tensors") {
  const auto overlap = [](uint64_t a, uint64_t b) {
    FileBuilder file(3, 0);
    file.tensor("one", {16}, kF32, a).tensor("two", {16}, kF32, b).tensor("far", {1}, kF32, 256);
    return refused(file.data(288));
  };
  for (const auto& [a, b] : {std::pair{0, 0}, {0, 32}, {32, 0}, {64, 32}}) {
    REQUIRE_THAT(overlap(static_cast<uint64_t>(a), static_cast<uint64_t>(b)),
                 Contains("'one'") && Contains("'two'") && Contains("overlap"));
  }
  // Side by side in another order than in the list is fine.
  FileBuilder file(2, 0);
  file.tensor("second", {16}, kF32, 64).tensor("first", {16}, kF32, 0).data(128);
  REQUIRE_OK(file.parse().status());
}

TEST_CASE("GgufFile refuses impossible alignments") {
  for (const uint32_t alignment : {0u, 3u, 33u, 1u << 21, 1u << 31}) {
    FileBuilder file(0, 1);
    file.key("general.alignment", GgufType::U32).number(alignment);
    REQUIRE_THAT(refused(file), Contains("general.alignment is " + std::to_string(alignment)));
  }
  FileBuilder file(0, 1);
  file.key("general.alignment", GgufType::String).text("32");
  REQUIRE_THAT(refused(file), Contains("general.alignment"));
}

TEST_CASE("GgufFile refuses every file that was cut") {
  const Bytes good = good_file();
  REQUIRE_OK(GgufFile::parse(good, "good").status());
  std::vector<size_t> sizes;
  for (size_t part = 0; part < 50; ++part) {
    sizes.push_back(good.size() * part / 50);
  }
  for (size_t size = 0; size < good.size(); ++size) {
    sizes.push_back(size);
  }
  for (const size_t size : sizes) {
    // A copy of just that size, so that the sanitizer detects a read past the end.
    const Bytes cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    const Status status = GgufFile::parse(cut, "cut").status();
    INFO("cut to " << size << ": " << status.message());
    REQUIRE(status.code() == Code::BadInput);
  }
}

TEST_CASE("GgufFile returns from any damage, and what it accepts lies in the file") {
  const Bytes good = good_file();
  std::mt19937_64 random(1);
  for (int round = 0; round < 4000; ++round) {
    Bytes bytes = good;
    for (uint64_t flips = random() % 3 + 1; flips > 0; --flips) {
      bytes[random() % bytes.size()] ^= static_cast<std::byte>(1u << (random() % 8));
    }
    const auto parsed = GgufFile::parse(bytes, "flipped");
    INFO("round " << round << ": " << parsed.status().message());
    if (!parsed.ok()) {
      REQUIRE(parsed.status().code() == Code::BadInput);
      REQUIRE_THAT(parsed.status().message(), Contains("flipped"));
      continue;
    }
    for (const GgufTensor& tensor : parsed.value().tensors()) {
      REQUIRE(tensor.offset <= bytes.size());
      REQUIRE(tensor.n_bytes <= bytes.size() - tensor.offset);
    }
  }
}

}  // namespace rwkv
