// llama.cpp's imatrix: both forms written and read, as statistics of a model, and files that are
// damaged, hostile or of another model.
#include <cmath>

#include "compressor/calibrate/imatrix.h"
#include "compressor/calibrate/statistics.h"
#include "compressor/checkpoint/open.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/container/gguf_reader.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"
#include "tests/support/way_out.h"

using namespace rwkv;
using namespace rwkv::test;
using press::ImatrixStatistics;
using press::ImatrixSums;

namespace {

std::string le32(int32_t value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

std::string le32(float value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

// A matrix of the older form with one sum.
std::string old_entry(const std::string& name, int32_t n_calls, float sum) {
  return le32(static_cast<int32_t>(name.size())) + name + le32(n_calls) + le32(1) + le32(sum);
}

std::string refusal(const std::string& content, const char* name = "i.dat") {
  const ScratchFolder scratch;
  test::write_text(scratch.file(name), content);
  const Status status = press::read_imatrix(scratch.file(name)).status();
  INFO(status.message());
  REQUIRE(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains(name));
  CHECK(says_what_to_do(status.message()));
  return status.message();
}

struct Bed {
  explicit Bed(const std::string& arch)
      : input(write_synth(scratch, arch, 64)), text(test::write_text(scratch, 4000)) {
    const auto checkpoint = press::open_checkpoint(input);
    REQUIRE_OK(checkpoint.status());
    auto model = press::identify_checkpoint(*checkpoint.value().source);
    REQUIRE_OK(model.status());
    config = model.value().config;
  }
  Status write(const std::string& path) const {
    RWKV_ASSIGN(const press::Checkpoint checkpoint, press::open_checkpoint(input));
    RWKV_ASSIGN(const press::Calibration calibration,
                press::sample_texts({.texts = {text}, .statistics = {}, .samples = 8, .length = 32},
                                    Vocabulary{}, config));
    return press::write_imatrix_of(*checkpoint.source, config, calibration, text, path,
                                   OutputFile::Existing::Replace, [](double) {});
  }

  ScratchFolder scratch;
  std::string input;
  std::string text;
  ModelConfig config;
};

}  // namespace

TEST_CASE("An imatrix comes back in both forms", "[imatrix]") {
  const ScratchFolder scratch;
  const std::string path = scratch.file(GENERATE("i.gguf", "i.dat"));
  REQUIRE_OK(press::write_imatrix(path, OutputFile::Existing::Refuse,
                                  {{"blk.1.b.weight", {30, 60}, 30}, {"blk.0.a.weight", {12}, 6}},
                                  "text.txt", 10));
  CHECK(press::looks_like_imatrix(path));
  const auto read = press::read_imatrix(path);
  REQUIRE_OK(read.status());
  CHECK(read.value().mean_squares.size() == 2);
  CHECK(read.value().mean_squares.at("blk.1.b.weight") == std::vector<float>{1, 2});
  CHECK(read.value().mean_squares.at("blk.0.a.weight") == std::vector<float>{2});
}

TEST_CASE("A GGUF imatrix has what llama.cpp looks for", "[imatrix]") {
  const ScratchFolder scratch;
  const std::string path = scratch.file("i.gguf");
  REQUIRE_OK(press::write_imatrix(path, OutputFile::Existing::Refuse,
                                  {{"output.weight", {30, 60}, 30}}, "text.txt", 10));
  const auto bytes = read_bytes(path);
  const auto file = GgufFile::parse(bytes, path);
  REQUIRE_OK(file.status());
  const GgufMetadata& metadata = file.value().metadata();
  CHECK(metadata.get_string("general.type").value() == "imatrix");
  CHECK(metadata.get_u64("imatrix.chunk_count").value() == 3);
  CHECK(metadata.get_u64("imatrix.chunk_size").value() == 10);
  CHECK(*metadata.get_strings("imatrix.datasets").value() == std::vector<std::string>{"text.txt"});
  CHECK(file.value().find("output.weight.in_sum2")->dims == std::vector<uint64_t>{2, 1});
  CHECK(file.value().find("output.weight.counts")->dims == std::vector<uint64_t>{1, 1});
}

TEST_CASE("Damaged and hostile imatrix files are refused", "[imatrix]") {
  const std::string good = le32(1) + old_entry("blk.0.a.weight", 2, 4);
  const ScratchFolder scratch;
  test::write_text(scratch.file("i.dat"), good + le32(1) + le32(0));
  REQUIRE_OK(press::read_imatrix(scratch.file("i.dat")).status());
  for (size_t n = 0; n < good.size(); ++n) {
    refusal(good.substr(0, n));
  }
  refusal(le32(-1));
  refusal(le32(INT32_MAX) + old_entry("a", 1, 1));
  refusal(le32(1) + le32(INT32_MAX) + "a");
  refusal(le32(1) + le32(-5) + "a");
  CHECK_THAT(refusal(le32(1) + old_entry("a", 2, std::nanf(""))), Catch::Contains("'a'"));
  CHECK_THAT(refusal(le32(1) + old_entry("a", 2, -1)), Catch::Contains("-1"));
  CHECK_THAT(refusal(le32(1) + old_entry("a", -2, 1)), Catch::Contains("-2"));
  CHECK_THAT(refusal(le32(2) + old_entry("a", 2, 1) + old_entry("a", 2, 1)),
             Catch::Contains("twice"));
  // Nothing of it ever occurred.
  CHECK_THAT(refusal(le32(1) + old_entry("a", 0, 0)), Catch::Contains("no matrix"));
  std::string huge = le32(1) + le32(1) + "a" + le32(1) + le32(INT32_MAX) + le32(1.0f);
  CHECK_THAT(refusal(huge), Catch::Contains("8589934588"));
  refusal("GGUF and no more", "i.gguf");
  // A GGUF of another kind.
  const Bed bed("v7");
  REQUIRE_OK(convert(bed.input, bed.scratch.file("m.gguf"), {}));
  CHECK_THAT(press::read_imatrix(bed.scratch.file("m.gguf")).status().message(),
             Catch::Contains("another GGUF"));
}

TEST_CASE("The imatrix of a model is the diagonal of its moments", "[imatrix]") {
  const Bed bed(GENERATE("v6", "v7"));
  const std::string path = bed.scratch.file("i.gguf");
  REQUIRE_OK(bed.write(path));
  const auto imatrix = ImatrixStatistics::open(path, bed.config);
  REQUIRE_OK(imatrix.status());
  const auto checkpoint = press::open_checkpoint(bed.input);
  const auto calibration =
      press::sample_texts({.texts = {bed.text}, .statistics = {}, .samples = 8, .length = 32},
                          Vocabulary{}, bed.config);
  const std::string file = bed.scratch.file("s.safetensors");
  REQUIRE_OK(press::write_statistics(*checkpoint.value().source, bed.config, calibration.value(),
                                     file, OutputFile::Existing::Refuse, [](double) {}));
  const auto statistics = press::Statistics::open(file, bed.config, bed.input);
  REQUIRE_OK(statistics.status());
  for (const char* product : {"att.key", "att.output", "ffn.key"}) {
    const at::Tensor squares = imatrix.value()->squares(1, product);
    const auto moments = statistics.value()->moments(1, product, 64);
    REQUIRE_OK(moments.status());
    CHECK((squares - moments.value().diagonal()).abs().max().item<float>() <
          1e-4f * squares.max().item<float>());
  }
  CHECK(imatrix.value()->squares(0, "ffn.value").numel() ==
        static_cast<int64_t>(bed.config.dim_ffn));
  CHECK(imatrix.value()->squares(-1, "head").numel() == 64);
}

TEST_CASE("An imatrix of another model is refused in one line", "[imatrix]") {
  const Bed bed("v7");
  const std::string path = bed.scratch.file("i.gguf");
  REQUIRE_OK(bed.write(path));
  const auto refused = [&](ModelConfig config, const char* part) {
    const Status status = ImatrixStatistics::open(path, config).status();
    INFO(status.message());
    REQUIRE(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Catch::Contains("another model") && Catch::Contains(part));
    CHECK(says_what_to_do(status.message()));
  };
  ModelConfig other = bed.config;
  other.n_layer = 3;
  refused(other, "blk.2.");
  other.n_layer = 1;
  refused(other, "1 blocks");
  other = bed.config;
  other.dim_ffn = 96;
  refused(other, "with 96 inputs");
  other = bed.config;
  other.version = Version::V6;
  refused(other, "found none");
  other.version = Version::V5_2;
  const Status status = ImatrixStatistics::open(path, other).status();
  CHECK(status.code() == Code::Usage);
  CHECK_THAT(status.message(), Catch::Contains("v5.2"));
}

TEST_CASE("Quantizers take an imatrix as weights, and stages that need text refuse it",
          "[imatrix]") {
  const Bed bed("v7");
  const std::string path = bed.scratch.file("i.dat");
  REQUIRE_OK(bed.write(path));
  const std::string output = bed.scratch.file("out.gguf");
  const auto pack = [&](const std::string& quantizer, const std::string& first,
                        const std::string& statistics) {
    return convert(
        bed.input, output,
        {.vocab = "bytes",
         .set = {},
         .recipe = "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n" + first +
                   "  - quantize: {codec: lut3, min_numbers: 0, quantizer: " + quantizer + "}\n",
         .texts = {},
         .statistics = statistics});
  };
  REQUIRE_OK(pack("rtn", "", ""));
  const auto plain = read_bytes(output);
  REQUIRE_OK(pack("weighted", "", path));
  const auto weighted = read_bytes(output);
  CHECK(weighted.size() <= plain.size() + 64);  // the recipe's text
  REQUIRE_OK(pack("auto", "", path));
  const auto automatic = read_bytes(output);
  const auto tail = [](const std::vector<std::byte>& file) {
    return std::vector<std::byte>(file.end() - 20000, file.end());
  };
  CHECK(tail(weighted) == tail(automatic));
  CHECK(tail(weighted) != tail(plain));
  const auto refused = [&](const Status& status, const char* part) {
    INFO(status.message());
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Catch::Contains("mean squares") && Catch::Contains(part));
  };
  refused(pack("refined", "", path), "quantizer refined");
  refused(pack("weighted", "  - low_rank: {factor: 4}\n", path), "stage low_rank");
}
