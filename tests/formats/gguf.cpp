// GGUF written and read back: every type of metadata and of tensor, alignment, and the checksums
// that are known only after the data.
#include <limits>

#include "formats/base/checksum.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/gguf_writer.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Catch::Contains;
using Bytes = std::vector<std::byte>;
using Plans = std::vector<GgufTensorPlan>;

template <typename Wide>
GgufValue array(GgufType element, std::vector<Wide> values) {
  return {GgufType::Array, element, std::move(values)};
}

template <typename T>
uint64_t max_of() {
  return std::numeric_limits<T>::max();
}
template <typename T>
int64_t min_of() {
  return std::numeric_limits<T>::min();
}

// One entry per type, scalar and array, at the ends of its range.
GgufMetadata all_types() {
  using enum GgufType;
  const uint64_t u64 = max_of<uint64_t>();
  const int64_t i64 = min_of<int64_t>();
  GgufMetadata metadata;
  metadata.set("u8", {U8, {}, max_of<uint8_t>()});
  metadata.set("i8", {I8, {}, min_of<int8_t>()});
  metadata.set("u16", {U16, {}, max_of<uint16_t>()});
  metadata.set("i16", {I16, {}, min_of<int16_t>()});
  metadata.set("u32", {U32, {}, max_of<uint32_t>()});
  metadata.set("i32", {I32, {}, min_of<int32_t>()});
  metadata.set("u64", {U64, {}, u64});
  metadata.set("i64", {I64, {}, i64});
  metadata.set("f32", {F32, {}, 0.1f + 0.0});
  metadata.set("f64", {F64, {}, 0.1});
  metadata.set("true", {Bool, {}, true});
  metadata.set("false", {Bool, {}, false});
  metadata.set("string", {String, {}, std::string("text \n \xc3\xa9 \0 end", 15)});
  metadata.set("empty string", {String, {}, std::string()});
  metadata.set("u8s", array<uint64_t>(U8, {0, max_of<uint8_t>()}));
  metadata.set("i8s", array<int64_t>(I8, {min_of<int8_t>(), 127}));
  metadata.set("u16s", array<uint64_t>(U16, {0, max_of<uint16_t>()}));
  metadata.set("i16s", array<int64_t>(I16, {min_of<int16_t>(), -1}));
  metadata.set("u32s", array<uint64_t>(U32, {0, max_of<uint32_t>()}));
  metadata.set("i32s", array<int64_t>(I32, {min_of<int32_t>(), -1}));
  metadata.set("u64s", array<uint64_t>(U64, {0, u64}));
  metadata.set("i64s", array<int64_t>(I64, {i64, -1}));
  metadata.set("f32s", array<double>(F32, {0.5, -0.25}));
  metadata.set("f64s", array<double>(F64, {0.1, 1e300}));
  metadata.set("bools", array<uint64_t>(Bool, {1, 0, 1}));
  metadata.set("strings", GgufValue::strings({"", "a", std::string(1000, 'b')}));
  metadata.set("no numbers", array<uint64_t>(U32, {}));
  metadata.set("no strings", GgufValue::strings({}));
  metadata.set("", GgufValue::u32(1));
  return metadata;
}

struct TypeRow {
  GgmlType ggml;
  DType dtype;
};
constexpr TypeRow kTypes[] = {
    {GgmlType::F32, DType::F32},       {GgmlType::F16, DType::F16},
    {GgmlType::Q4_0, DType::Q4_0},     {GgmlType::Q4_1, DType::Q4_1},
    {GgmlType::Q5_0, DType::Q5_0},     {GgmlType::Q5_1, DType::Q5_1},
    {GgmlType::Q8_0, DType::Q8_0},     {GgmlType::I8, DType::I8},
    {GgmlType::I16, DType::I16},       {GgmlType::I32, DType::I32},
    {GgmlType::I64, DType::I64},       {GgmlType::F64, DType::F64},
    {GgmlType::BF16, DType::BF16},     {GgmlType::Q2_K, DType::Q2_K},
    {GgmlType::Q3_K, DType::Q3_K},     {GgmlType::Q4_K, DType::Q4_K},
    {GgmlType::Q5_K, DType::Q5_K},     {GgmlType::Q6_K, DType::Q6_K},
    {GgmlType::IQ4_NL, DType::IQ4_NL}, {GgmlType::IQ4_XS, DType::IQ4_XS},
};

// A tensor of each type, with one to four dimensions, and its bytes.
struct Content {
  Plans plans;
  std::vector<Bytes> data;
};
Content all_tensors() {
  Content content;
  for (const TypeRow& row : kTypes) {
    const size_t i = content.plans.size();
    const uint64_t n = traits(row.dtype).block == 256 ? 256 : 32;
    const std::vector<uint64_t> dims[] = {{n}, {n, 3}, {2 * n, 1, 5}, {n, 2, 1, 3}};
    const TensorInfo info{
        "t." + std::to_string(i), row.dtype, {dims[i % 4].rbegin(), dims[i % 4].rend()}};
    content.plans.push_back({info.name, row.ggml, dims[i % 4], info.n_bytes()});
    Bytes bytes(info.n_bytes());
    for (size_t k = 0; k < bytes.size(); ++k) {
      bytes[k] = static_cast<std::byte>(i * 31 + k);
    }
    content.data.push_back(std::move(bytes));
  }
  return content;
}

std::unique_ptr<GgufWriter> create(const std::string& path, GgufMetadata metadata, Plans plans) {
  auto writer =
      GgufWriter::create(path, OutputFile::Existing::Refuse, std::move(metadata), std::move(plans));
  REQUIRE_OK(writer.status());
  return writer.take();
}

}  // namespace

TEST_CASE("GGUF: metadata and tensors of every type come back as they were written") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("model.gguf");
  GgufMetadata metadata = all_types();
  const uint32_t alignment = GENERATE(0u, 1u, 8u, 64u, 4096u);
  if (alignment > 0) {
    metadata.set("general.alignment", GgufValue::u32(alignment));
  }
  const Content content = all_tensors();
  const auto writer = create(path, metadata, content.plans);
  for (const Bytes& bytes : content.data) {
    REQUIRE_OK(writer->append(bytes));
  }
  REQUIRE_OK(writer->finish());

  const Bytes bytes = test::read_bytes(path);
  REQUIRE(looks_like_gguf(bytes));
  const auto parsed = GgufFile::parse(bytes, path);
  REQUIRE_OK(parsed.status());
  const GgufFile& file = parsed.value();
  REQUIRE(file.origin() == path);
  REQUIRE(file.alignment() == (alignment == 0 ? 32 : alignment));

  REQUIRE(file.metadata().entries().size() == metadata.entries().size() + 1);
  for (size_t i = 0; i < metadata.entries().size(); ++i) {
    const auto& [key, wanted] = metadata.entries()[i];
    INFO("key '" << key << "'");
    REQUIRE(file.metadata().entries()[i].first == key);
    const GgufValue& found = file.metadata().entries()[i].second;
    REQUIRE(found.type == wanted.type);
    REQUIRE((wanted.type != GgufType::Array || found.element == wanted.element));
    REQUIRE(found.value == wanted.value);
  }

  const auto checksums = file.metadata().get_u64s(kTensorXxh64Key);
  REQUIRE_OK(checksums.status());
  REQUIRE(checksums.value()->size() == content.plans.size());
  REQUIRE(file.tensors().size() == content.plans.size());
  for (size_t i = 0; i < content.plans.size(); ++i) {
    const GgufTensor& tensor = file.tensors()[i];
    REQUIRE(tensor.name == content.plans[i].name);
    REQUIRE(tensor.dtype == kTypes[i].dtype);
    REQUIRE(tensor.dims == content.plans[i].dims);
    REQUIRE(tensor.n_bytes == content.data[i].size());
    REQUIRE(tensor.offset % file.alignment() == 0);
    const auto from = bytes.begin() + static_cast<ptrdiff_t>(tensor.offset);
    REQUIRE(std::equal(content.data[i].begin(), content.data[i].end(), from));
    REQUIRE((*checksums.value())[i] == xxh64(content.data[i]));
    REQUIRE(file.find(tensor.name) == &tensor);
    REQUIRE(tensor.info().shape.back() == tensor.dims.front());
  }
  REQUIRE(file.find("t.") == nullptr);
}

TEST_CASE("GgufWriter: data may come in pieces of any size") {
  const test::ScratchFolder folder;
  const Content content = all_tensors();
  Bytes all;
  for (const Bytes& bytes : content.data) {
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  Bytes first;
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{1000}, all.size()}) {
    const std::string path = folder.file(std::to_string(piece));
    const auto writer = create(path, {}, content.plans);
    for (size_t at = 0; at < all.size(); at += piece) {
      REQUIRE_OK(writer->append(std::span(all).subspan(at, std::min(piece, all.size() - at))));
    }
    REQUIRE_OK(writer->append({}));
    REQUIRE_OK(writer->finish());
    const Bytes file = test::read_bytes(path);
    REQUIRE(file.size() == writer->bytes_written());
    first = first.empty() ? file : first;
    REQUIRE(file == first);
  }
}

TEST_CASE("GgufWriter refuses too much and too little data, and leaves nothing") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("model.gguf");
  const Plans plans = {{"a", GgmlType::F32, {2}, 8}, {"b", GgmlType::F32, {1}, 4}};
  {
    const auto writer = create(path, {}, plans);
    REQUIRE_OK(writer->append(Bytes(10)));
    const Status status = writer->finish();
    REQUIRE(status.code() == Code::Failed);
    REQUIRE_THAT(status.message(), Contains("'b'") && Contains("2 of 4"));
  }
  {
    const auto writer = create(path, {}, plans);
    REQUIRE(writer->append(Bytes(13)).code() == Code::Failed);
  }
  REQUIRE(folder.entries().empty());
}

TEST_CASE("GGUF: a file without tensors and metadata") {
  const test::ScratchFolder folder;
  const std::string path = folder.file("empty.gguf");
  REQUIRE_OK(create(path, {}, {})->finish());
  const auto parsed = GgufFile::parse(test::read_bytes(path), path);
  REQUIRE_OK(parsed.status());
  REQUIRE(parsed.value().tensors().empty());
  REQUIRE(parsed.value().metadata().get_u64s(kTensorXxh64Key).value()->empty());
  REQUIRE(GgufWriter::create(path, OutputFile::Existing::Refuse, {}, {}).status().code() ==
          Code::Usage);
}

TEST_CASE("GgufMetadata: look-ups name the key and what is there instead") {
  GgufMetadata metadata = all_types();
  REQUIRE(metadata.get_u64("u8").value() == 255);
  REQUIRE(metadata.get_f64("f64").value() == 0.1);
  REQUIRE(metadata.get_string("empty string").value().empty());
  REQUIRE(metadata.get_strings("strings").value()->size() == 3);
  REQUIRE(metadata.get_u64s("u8s").value()->size() == 2);
  const Status missing = metadata.get_u64("nothing").status();
  REQUIRE(missing.code() == Code::BadInput);
  REQUIRE_THAT(missing.message(), Contains("'nothing'"));
  for (const auto& [key, value] : metadata.entries()) {
    const bool is_u64 = std::holds_alternative<uint64_t>(value.value);
    REQUIRE(metadata.get_u64(key).ok() == is_u64);
    REQUIRE(metadata.get_string(key).ok() == (value.type == GgufType::String));
    if (!is_u64) {
      REQUIRE_THAT(metadata.get_u64(key).status().message(),
                   Contains("'" + key + "'") && Contains("expected an unsigned integer"));
    }
  }
  const size_t n = metadata.entries().size();
  metadata.set("u8", GgufValue::string("new"));
  REQUIRE(metadata.entries().size() == n);
  REQUIRE(metadata.entries().front().second.type == GgufType::String);
}

TEST_CASE("GgufMetadata: values for people are short and on one line") {
  const GgufMetadata metadata = all_types();
  REQUIRE(value_to_string(*metadata.find("i8")) == "-128");
  REQUIRE(value_to_string(*metadata.find("true")) == "true");
  REQUIRE(value_to_string(*metadata.find("strings")) == "[3 strings]");
  REQUIRE(value_to_string(*metadata.find("i16s")) == "[-32768, -1]");
  REQUIRE(value_to_string(*metadata.find("no numbers")) == "[]");
  REQUIRE(value_to_string(GgufValue::u64s(std::vector<uint64_t>(100))) == "[100 numbers]");
  REQUIRE(value_to_string(GgufValue::string("a\n\x1b[31m")) == "\"a\\n\\x1b[31m\"");
  REQUIRE(value_to_string(GgufValue::string(std::string(1000, 'x'))).size() < 160);
}

}  // namespace rwkv
