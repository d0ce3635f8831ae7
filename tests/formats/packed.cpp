// packed_tensors(): GGUF's list and our arrays, which must agree in everything.
#include "formats/container/packed_tensors.h"

#include <functional>

#include "formats/base/checksum.h"
#include "formats/container/gguf_writer.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_listing.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv {
namespace {

using Catch::Contains;
using Bytes = std::vector<std::byte>;
using Numbers = std::vector<uint64_t>;
using Names = std::vector<std::string>;

// A packed file in parts, to be spoiled one by one. Sizes are small and unlike each other.
struct Parts {
  GgufMetadata metadata;
  Names codecs;
  Numbers rows;
  Numbers cols;
  std::vector<GgufTensorPlan> plans;

  void add(const std::string& name, Codec codec, const Numbers& shape) {
    const CodecTraits& traits = codec_traits(codec);
    cols.push_back(shape.back());
    rows.push_back(rows_of_shape(shape));
    codecs.push_back(traits.name);
    plans.push_back({name, listed_type(codec), listed_dims(traits, shape),
                     traits.encoded_bytes(rows.back(), cols.back())});
  }

  // Writes and parses the file; the arrays go in unless the metadata has them already.
  GgufFile file() const {
    const test::ScratchFolder folder;
    const std::string path = folder.file("packed.gguf");
    GgufMetadata all = metadata;
    const auto set = [&](const char* key, GgufValue value) {
      if (!all.contains(key)) {
        all.set(key, std::move(value));
      }
    };
    set(keys::kTensorCodec, GgufValue::strings(codecs));
    set(keys::kTensorRows, GgufValue::u64s(rows));
    set(keys::kTensorCols, GgufValue::u64s(cols));
    auto writer = GgufWriter::create(path, OutputFile::Existing::Refuse, all, plans);
    REQUIRE_OK(writer.status());
    for (const GgufTensorPlan& plan : plans) {
      REQUIRE_OK(writer.value()->append(Bytes(plan.n_bytes, std::byte{1})));
    }
    REQUIRE_OK(writer.value()->finish());
    auto parsed = GgufFile::parse(test::read_bytes(path), "packed.gguf");
    REQUIRE_OK(parsed.status());
    return parsed.take();
  }
};

Parts good_parts() {
  Parts parts;
  parts.metadata.set(keys::kArchitecture, GgufValue::string(keys::kArchitectureName));
  parts.metadata.set(keys::kFormat, GgufValue::u32(keys::kFormatVersion));
  parts.add("vector", Codec::F32, {9});
  parts.add("matrix", Codec::F16, {6, 4});
  parts.add("deep", Codec::F32, {5, 3, 7});
  parts.add("rows", Codec::I8Row, {10, 13});
  parts.add("whole", Codec::Mm8, {11, 12});
  return parts;
}

std::string refused(const Parts& parts) {
  const Status status = packed_tensors(parts.file()).status();
  REQUIRE(status.code() == Code::BadInput);
  INFO(status.message());
  REQUIRE_THAT(status.message(), Contains("packed.gguf") || Contains("metadata key"));
  CHECK(test::says_what_to_do(status.message()));
  return status.message();
}

using Spoil = std::function<void(Parts&)>;
std::string refused_after(const Spoil& spoil) {
  Parts parts = good_parts();
  spoil(parts);
  return refused(parts);
}

}  // namespace

TEST_CASE("packed_tensors joins GGUF's list with the arrays") {
  const Parts parts = good_parts();
  const GgufFile file = parts.file();
  REQUIRE(is_packed(file));
  const auto found = packed_tensors(file);
  REQUIRE_OK(found.status());
  const Numbers shapes[] = {{9}, {6, 4}, {5, 3, 7}, {10, 13}, {11, 12}};
  REQUIRE(found.value().size() == std::size(shapes));
  for (size_t i = 0; i < std::size(shapes); ++i) {
    const PackedTensor& tensor = found.value()[i];
    INFO(tensor.name);
    REQUIRE(tensor.name == parts.plans[i].name);
    REQUIRE(codec_traits(tensor.codec).name == parts.codecs[i]);
    REQUIRE(tensor.shape == shapes[i]);
    REQUIRE(tensor.rows == parts.rows[i]);
    REQUIRE(tensor.cols == parts.cols[i]);
    REQUIRE(tensor.offset == file.tensors()[i].offset);
    REQUIRE(tensor.n_bytes == parts.plans[i].n_bytes);
    REQUIRE(tensor.xxh64 == xxh64(Bytes(tensor.n_bytes, std::byte{1})));
  }
}

TEST_CASE("verify_tensor finds a single flipped bit") {
  const auto tensors = packed_tensors(good_parts().file()).take();
  for (const PackedTensor& tensor : tensors) {
    Bytes bytes(tensor.n_bytes, std::byte{1});
    REQUIRE_OK(verify_tensor(tensor, bytes));
    bytes.back() ^= std::byte{0x80};
    const Status status = verify_tensor(tensor, bytes);
    REQUIRE(status.code() == Code::BadInput);
    REQUIRE_THAT(status.message(), Contains("'" + tensor.name + "'") && Contains("damaged"));
    bytes.back() ^= std::byte{0x80};
    REQUIRE_FALSE(verify_tensor(tensor, std::span(bytes).first(bytes.size() - 1)).ok());
  }
}

TEST_CASE("packed_tensors refuses files that are not ours, or newer") {
  const auto no_format = refused_after([](Parts& parts) {
    parts.metadata = {};
    parts.metadata.set(keys::kArchitecture, GgufValue::string("rwkv"));
  });
  REQUIRE_THAT(no_format,
               Contains("a GGUF file of another program") && Contains("rwkv-press convert"));
  const auto other = refused_after(
      [](Parts& parts) { parts.metadata.set(keys::kArchitecture, GgufValue::string("llama")); });
  REQUIRE_THAT(other, Contains("a GGUF file of another program") && Contains("rwkv-press convert"));
  refused_after([](Parts& parts) { parts.metadata.set(keys::kArchitecture, GgufValue::u32(1)); });
  const auto newer =
      refused_after([](Parts& parts) { parts.metadata.set(keys::kFormat, GgufValue::u32(999)); });
  REQUIRE_THAT(newer, Contains("999") && Contains(std::to_string(keys::kFormatVersion)));
  const auto with_tool = refused_after([](Parts& parts) {
    parts.metadata.set(keys::kFormat, GgufValue::u32(keys::kFormatVersion + 1));
    parts.metadata.set(keys::kToolVersion, GgufValue::string("7.8.9"));
  });
  REQUIRE_THAT(with_tool, Contains("rwkv-press 7.8.9 or newer"));
  const auto older =
      refused_after([](Parts& parts) { parts.metadata.set(keys::kFormat, GgufValue::u32(1)); });
  REQUIRE_THAT(older, Contains("version 1") && Contains("convert the original checkpoint again"));
  refused_after([](Parts& parts) { parts.metadata.set(keys::kFormat, GgufValue::u32(0)); });
  refused_after([](Parts& parts) { parts.metadata.set(keys::kFormat, GgufValue::string("1")); });
}

TEST_CASE("packed_tensors reads version 2, but for matrices in mm8") {
  Parts parts = good_parts();
  parts.metadata.set(keys::kFormat, GgufValue::u32(keys::kOldestFormatVersion));
  const std::string message = refused(parts);
  REQUIRE_THAT(message, Contains("'whole'") && Contains("mm8") && Contains("version 2") &&
                            Contains("convert the original checkpoint again"));
  parts.codecs.pop_back();
  parts.rows.pop_back();
  parts.cols.pop_back();
  parts.plans.pop_back();
  const auto tensors = packed_tensors(parts.file());
  REQUIRE_OK(tensors.status());
  REQUIRE(tensors.value().size() == parts.plans.size());
}

TEST_CASE("packed_tensors refuses arrays that are missing, of another type or length") {
  for (const char* key : {keys::kTensorCodec, keys::kTensorRows, keys::kTensorCols}) {
    INFO(key);
    REQUIRE_THAT(refused_after([&](Parts& p) { p.metadata.set(key, GgufValue::u32(5)); }),
                 Contains(key));
    REQUIRE_THAT(refused_after([&](Parts& p) { p.metadata.set(key, GgufValue::i32s({-1})); }),
                 Contains(key));
  }
  const Spoil lengths[] = {
      [](Parts& p) { p.codecs.pop_back(); }, [](Parts& p) { p.rows.pop_back(); },
      [](Parts& p) { p.cols.push_back(1); }, [](Parts& p) { p.codecs.clear(); },
      [](Parts& p) { p.plans.pop_back(); },
  };
  for (const Spoil& spoil : lengths) {
    const std::string message = refused_after(spoil);
    REQUIRE_THAT(message, Contains("tensors, but") && Contains("codecs"));
  }
  // A GGUF that our writer did not make has no checksums.
  const GgufFile file = [] {
    Parts parts = good_parts();
    const test::ScratchFolder folder;
    GgufMetadata all = parts.metadata;
    all.set(keys::kTensorCodec, GgufValue::strings({}));
    all.set(keys::kTensorRows, GgufValue::u64s({}));
    all.set(keys::kTensorCols, GgufValue::u64s({}));
    const std::string path = folder.file("other.gguf");
    auto writer = GgufWriter::create(path, OutputFile::Existing::Refuse, all, {}).take();
    REQUIRE_OK(writer->finish());
    Bytes bytes = test::read_bytes(path);
    const auto key = test::as_bytes(kTensorXxh64Key);
    const auto at = std::search(bytes.begin(), bytes.end(), key.begin(), key.end());
    REQUIRE(at != bytes.end());
    *at = std::byte{'X'};
    return GgufFile::parse(bytes, "other.gguf").take();
  }();
  REQUIRE_THAT(packed_tensors(file).status().message(), Contains(kTensorXxh64Key));
}

TEST_CASE("packed_tensors refuses every disagreement about a tensor") {
  const size_t n_tensors = good_parts().plans.size();
  for (size_t i = 0; i < n_tensors; ++i) {
    const std::string name = good_parts().plans[i].name;
    const auto check = [&](const char* what, const Spoil& spoil) {
      INFO(name << ": " << what);
      const std::string message = refused_after(spoil);
      REQUIRE_THAT(message, Contains("'" + name + "'"));
    };
    check("unknown codec", [&](Parts& p) { p.codecs[i] = "i9_row"; });
    check("empty codec", [&](Parts& p) { p.codecs[i] = ""; });
    for (const CodecTraits& codec : codec_list()) {
      if (codec.name != good_parts().codecs[i]) {
        check(codec.name, [&](Parts& p) { p.codecs[i] = codec.name; });
      }
    }
    check("a row more", [&](Parts& p) { p.rows[i] += 1; });
    check("no rows", [&](Parts& p) { p.rows[i] = 0; });
    check("a column less", [&](Parts& p) { p.cols[i] -= 1; });
    check("no columns", [&](Parts& p) { p.cols[i] = 0; });
    check("absurd rows", [&](Parts& p) { p.rows[i] = ~uint64_t{0}; });
    check("absurd both", [&](Parts& p) { p.rows[i] = p.cols[i] = uint64_t{1} << 32; });
    // 2^64 / n rows of n columns wrap around to few bytes.
    check("wrapping", [&](Parts& p) { p.rows[i] = ~uint64_t{0} / p.cols[i] + 2; });
    // Sides swapped may take as many bytes in mm8, which GGUF lists as a run of bytes: identify()
    // compares them with the model.
    if (good_parts().rows[i] > 1 && good_parts().codecs[i] != kCodecMm8.name) {
      check("rows and columns swapped", [&](Parts& p) { std::swap(p.rows[i], p.cols[i]); });
      check("one long row", [&](Parts& p) {
        p.cols[i] *= p.rows[i];
        p.rows[i] = 1;
      });
    }
    check("another type", [&](Parts& p) {
      p.plans[i].type = p.plans[i].type == GgmlType::I8 ? GgmlType::Q8_0 : GgmlType::BF16;
      // Of as many bytes as there were, where the type allows it.
      const uint64_t block_bytes = p.plans[i].type == GgmlType::Q8_0 ? 34 : 2;
      p.plans[i].dims = {p.plans[i].n_bytes / block_bytes * (block_bytes == 34 ? 32 : 1)};
      p.plans[i].n_bytes -= p.plans[i].n_bytes % block_bytes;
    });
  }
  const std::string unknown = refused_after([](Parts& p) { p.codecs[1] = "i9_row"; });
  REQUIRE_THAT(unknown, Contains("'i9_row'") && Contains("does not know"));
}

TEST_CASE("packed_tensors refuses dimensions that only agree in their product") {
  REQUIRE_THAT(refused_after([](Parts& p) { p.plans[1].dims = {6, 4}; }), Contains("'matrix'"));
  REQUIRE_THAT(refused_after([](Parts& p) { p.plans[1].dims = {24}; }), Contains("'matrix'"));
  REQUIRE_THAT(refused_after([](Parts& p) { std::swap(p.plans[3].dims[0], p.plans[3].dims[1]); }),
               Contains("'rows'"));
  REQUIRE_THAT(refused_after([](Parts& p) {
                 p.plans[4].dims = {p.plans[4].n_bytes, 1};
               }),
               Contains("'whole'"));
  REQUIRE_THAT(refused_after([](Parts& p) {
                 p.plans[0] = {"vector", GgmlType::F32, {}, 4};
                 p.rows[0] = p.cols[0] = 1;
               }),
               Contains("'vector'"));
}

}  // namespace rwkv
