// rwkv.cpp's .bin: small models converted by hand as its converter does must come back as they
// were; hostile files must be refused; and, where the data is there, real files equal their
// safetensors.
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "formats/base/little_endian.h"
#include "formats/container/rwkv_cpp_reader.h"
#include "formats/container/safetensors_reader.h"
#include "tests/formats/damaged_files.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv {
namespace {

using Shape = std::vector<uint64_t>;

// Builds a file entry by entry. Numbers are given as they are to lie in the file.
class BinFile {
 public:
  explicit BinFile(int32_t version = 101, int32_t n_vocab = 4, int32_t n_embed = 6,
                   int32_t n_layer = 1) {
    i32s({0x67676d66, version, n_vocab, n_embed, n_layer, 0});
  }
  BinFile& i32s(const std::vector<int32_t>& values) {
    for (const int32_t value : values) {
      bytes.resize(bytes.size() + 4);
      store_le<int32_t>(bytes.data() + bytes.size() - 4, value);
    }
    return *this;
  }
  BinFile& raw(std::span<const std::byte> data) {
    bytes.insert(bytes.end(), data.begin(), data.end());
    return *this;
  }
  BinFile& head(const std::string& name, int32_t type, const Shape& shape) {
    i32s({static_cast<int32_t>(shape.size()), static_cast<int32_t>(name.size()), type});
    for (auto dim = shape.rbegin(); dim != shape.rend(); ++dim) {
      i32s({static_cast<int32_t>(*dim)});
    }
    return raw(test::as_bytes(name));
  }
  BinFile& f32(const std::string& name, const Shape& shape, const std::vector<float>& values) {
    return head(name, 0, shape).raw(std::as_bytes(std::span(values)));
  }
  // What every complete file has, around `middle`.
  BinFile& begin() { return f32("emb.weight", {4, 6}, std::vector<float>(24, 0.5f)); }
  BinFile& end() {
    return f32("blocks.0.ln1.weight", {6}, std::vector<float>(6, 1.0f))
        .f32("ln_out.weight", {6}, std::vector<float>(6, 1.0f))
        .f32("head.weight", {4, 6}, std::vector<float>(24, 0.25f));
  }

  std::vector<std::byte> bytes;
};

std::vector<float> noise_values(uint64_t seed, size_t n) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) {
    values[i] = test::noise(seed, i);
  }
  return values;
}

std::vector<float> mapped(std::vector<float> values, double (*change)(double)) {
  for (float& value : values) {
    value = static_cast<float>(change(static_cast<double>(value)));
  }
  return values;
}

// [matrices, rows, columns] -> [matrices, columns, rows]
std::vector<float> swapped(const std::vector<float>& values, size_t rows, size_t columns) {
  std::vector<float> result(values.size());
  for (size_t m = 0; m < values.size(); m += rows * columns) {
    for (size_t r = 0; r < rows; ++r) {
      for (size_t c = 0; c < columns; ++c) {
        result[m + c * rows + r] = values[m + r * columns + c];
      }
    }
  }
  return result;
}

double exp_exp(double raw) {
  return std::exp(-std::exp(raw));
}
double minus_exp(double raw) {
  return -std::exp(raw);
}
double exp_only(double raw) {
  return std::exp(raw);
}

struct Read {
  Shape shape;
  std::vector<float> values;
};

std::vector<float> floats_of(const TensorSource& source, size_t index) {
  std::vector<std::byte> bytes;
  REQUIRE_OK(source.read(index, bytes));
  const TensorInfo& info = source.tensors()[index];
  std::vector<float> values(info.n_elements());
  decode_to_f32(info.dtype, bytes, values);
  return values;
}

std::map<std::string, Read> read_all(const BinFile& file) {
  const test::ScratchFolder folder;
  test::write_bytes(folder.file("model.bin"), file.bytes);
  auto opened = open_rwkv_cpp(folder.file("model.bin"));
  REQUIRE_OK(opened.status());
  test::check_reads_agree(*opened.value());
  std::map<std::string, Read> result;
  for (size_t i = 0; i < opened.value()->tensors().size(); ++i) {
    const TensorInfo& info = opened.value()->tensors()[i];
    result[info.name] = {info.shape, floats_of(*opened.value(), i)};
  }
  return result;
}

std::string refusal(const BinFile& file) {
  const test::ScratchFolder folder;
  test::write_bytes(folder.file("model.bin"), file.bytes);
  const Status status = open_rwkv_cpp(folder.file("model.bin")).status();
  REQUIRE(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains("model.bin"));
  INFO(status.message());
  CHECK(test::says_what_to_do(status.message()));
  return status.message();
}

void check_close(const std::vector<float>& got, const std::vector<float>& wanted) {
  REQUIRE(got.size() == wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i] == Approx(wanted[i]).margin(1e-5));
  }
}

const std::string kAtt = "blocks.0.att.";

}  // namespace

TEST_CASE("rwkv.cpp: v4's decay is undone", "[rwkv_cpp]") {
  const auto decay = noise_values(1, 6);
  const auto first = noise_values(2, 6);
  const auto tensors = read_all(BinFile(100)
                                    .begin()
                                    .f32(kAtt + "time_decay", {6}, mapped(decay, minus_exp))
                                    .f32(kAtt + "time_first", {6}, first)
                                    .end());
  CHECK(tensors.at(kAtt + "time_decay").shape == Shape{6});
  check_close(tensors.at(kAtt + "time_decay").values, decay);
  CHECK(tensors.at(kAtt + "time_first").values == first);
  CHECK(tensors.at("emb.weight").shape == Shape{4, 6});
}

TEST_CASE("rwkv.cpp: v5.0's values per head are undone", "[rwkv_cpp]") {
  const auto decay = noise_values(1, 2);
  const auto first = noise_values(2, 2);
  const auto tensors = read_all(BinFile()
                                    .begin()
                                    .f32(kAtt + "ln_x.weight", {6}, noise_values(3, 6))
                                    .f32(kAtt + "time_decay", {2, 1, 1}, mapped(decay, exp_exp))
                                    .f32(kAtt + "time_first", {2, 1, 1}, mapped(first, exp_only))
                                    .end());
  CHECK(tensors.at(kAtt + "time_decay").shape == Shape{2});
  check_close(tensors.at(kAtt + "time_decay").values, decay);
  CHECK(tensors.at(kAtt + "time_first").shape == Shape{2});
  check_close(tensors.at(kAtt + "time_first").values, first);
}

TEST_CASE("rwkv.cpp: v5.1 and v5.2 are told apart by shape", "[rwkv_cpp]") {
  struct Case {
    Shape stored;
    Shape wanted;
  };
  // Per head; per channel; and per channel of a single head, which the converter squeezed.
  for (const Case& c : {Case{{2, 1}, {2}}, Case{{2, 3, 1}, {2, 3}}, Case{{6, 1}, {1, 6}}}) {
    const TensorInfo stored{"", DType::F32, c.stored};
    const auto decay = noise_values(1, stored.n_elements());
    const auto faaaa = noise_values(2, stored.n_elements());
    const auto tensors = read_all(BinFile()
                                      .begin()
                                      .f32(kAtt + "ln_x.weight", {6}, noise_values(3, 6))
                                      .f32(kAtt + "gate.weight", {6, 6}, noise_values(4, 36))
                                      .f32(kAtt + "time_decay", c.stored, mapped(decay, exp_exp))
                                      .f32(kAtt + "time_faaaa", c.stored, faaaa)
                                      .end());
    CHECK(tensors.at(kAtt + "time_decay").shape == c.wanted);
    check_close(tensors.at(kAtt + "time_decay").values, decay);
    CHECK(tensors.at(kAtt + "time_faaaa").shape == c.wanted);
    CHECK(tensors.at(kAtt + "time_faaaa").values == faaaa);
  }
}

TEST_CASE("rwkv.cpp: v6's transposed matrices are undone", "[rwkv_cpp]") {
  const auto maa_w1 = noise_values(1, 6 * 10);
  const auto maa_w2 = noise_values(2, 5 * 2 * 6);
  const auto decay_w1 = noise_values(3, 6 * 4);
  const auto decay_w2 = noise_values(4, 4 * 6);
  const auto decay = noise_values(5, 6);
  const auto tensors = read_all(BinFile()
                                    .begin()
                                    .f32(kAtt + "time_maa_x", {6}, noise_values(6, 6))
                                    .f32(kAtt + "time_maa_w1", {10, 6}, swapped(maa_w1, 6, 10))
                                    .f32(kAtt + "time_maa_w2", {5, 6, 2}, swapped(maa_w2, 2, 6))
                                    .f32(kAtt + "time_decay_w1", {4, 6}, swapped(decay_w1, 6, 4))
                                    .f32(kAtt + "time_decay_w2", {6, 4}, swapped(decay_w2, 4, 6))
                                    .f32(kAtt + "time_decay", {2, 3, 1}, decay)
                                    .f32(kAtt + "time_faaaa", {2, 3, 1}, decay)
                                    .end());
  CHECK(tensors.at(kAtt + "time_maa_w1").shape == Shape{6, 10});
  CHECK(tensors.at(kAtt + "time_maa_w1").values == maa_w1);
  CHECK(tensors.at(kAtt + "time_maa_w2").shape == Shape{5, 2, 6});
  CHECK(tensors.at(kAtt + "time_maa_w2").values == maa_w2);
  CHECK(tensors.at(kAtt + "time_decay_w1").values == decay_w1);
  CHECK(tensors.at(kAtt + "time_decay_w2").shape == Shape{4, 6});
  CHECK(tensors.at(kAtt + "time_decay_w2").values == decay_w2);
  CHECK(tensors.at(kAtt + "time_decay").shape == Shape{1, 1, 6});
  CHECK(tensors.at(kAtt + "time_decay").values == decay);
  CHECK(tensors.at(kAtt + "time_faaaa").shape == Shape{2, 3});
}

TEST_CASE("rwkv.cpp: v7's joint and transposed tensors are undone", "[rwkv_cpp]") {
  const auto joint = noise_values(1, 6 * 6);
  const auto w1 = noise_values(2, 6 * 4);
  const auto tensors = read_all(BinFile()
                                    .begin()
                                    .f32(kAtt + "x_rwkvag", {6, 1, 6}, joint)
                                    .f32(kAtt + "w1", {4, 6}, swapped(w1, 6, 4))
                                    .f32(kAtt + "k_k", {1, 1, 6}, noise_values(3, 6))
                                    .end());
  CHECK(tensors.count(kAtt + "x_rwkvag") == 0);
  const std::string order = "rwkvag";
  for (size_t i = 0; i < 6; ++i) {
    const Read& part = tensors.at(kAtt + "x_" + order[i]);
    CHECK(part.shape == Shape{1, 1, 6});
    CHECK(std::equal(part.values.begin(), part.values.end(), joint.begin() + 6 * int(i)));
  }
  CHECK(tensors.at(kAtt + "w1").shape == Shape{6, 4});
  CHECK(tensors.at(kAtt + "w1").values == w1);
}

TEST_CASE("rwkv.cpp: blocks are presented as they lie, or decoded where transposed", "[rwkv_cpp]") {
  BinFile file;
  file.begin().f32(kAtt + "k_k", {6}, noise_values(1, 6));
  std::vector<std::byte> blocks(2 * 34, std::byte{2});
  file.head("blocks.0.ffn.key.weight", 9, {2, 32}).raw(blocks);
  file.head(kAtt + "g1", 9, {2, 32}).raw(blocks).end();
  const test::ScratchFolder folder;
  test::write_bytes(folder.file("model.bin"), file.bytes);
  auto opened = open_rwkv_cpp(folder.file("model.bin"));
  REQUIRE_OK(opened.status());
  const auto& tensors = opened.value()->tensors();
  CHECK(tensors[2].dtype == DType::Q8_0);
  std::vector<std::byte> bytes;
  REQUIRE_OK(opened.value()->read(2, bytes));
  CHECK(bytes == blocks);
  CHECK(tensors[3].dtype == DType::F32);
  CHECK(tensors[3].shape == Shape{32, 2});
  test::check_reads_agree(*opened.value());
}

TEST_CASE("rwkv.cpp: decays of 0 and 1 become infinities, others out of range are refused",
          "[rwkv_cpp]") {
  const auto with_decay = [](std::vector<float> decay) {
    return BinFile()
        .begin()
        .f32(kAtt + "ln_x.weight", {6}, noise_values(3, 6))
        .f32(kAtt + "time_decay", {2, 1, 1}, decay)
        .end();
  };
  const auto values = read_all(with_decay({0.0f, 1.0f})).at(kAtt + "time_decay").values;
  CHECK(values[0] == std::numeric_limits<float>::infinity());
  CHECK(values[1] == -std::numeric_limits<float>::infinity());
  const test::ScratchFolder folder;
  test::write_bytes(folder.file("bad.bin"), with_decay({0.5f, 1.5f}).bytes);
  auto opened = open_rwkv_cpp(folder.file("bad.bin"));
  REQUIRE_OK(opened.status());
  std::vector<std::byte> bytes;
  const Status status = opened.value()->read(2, bytes);
  CHECK(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains("time_decay: element 1 is 1.5"));
}

TEST_CASE("rwkv.cpp: hostile files are refused", "[rwkv_cpp]") {
  using Catch::Contains;
  CHECK_THAT(refusal(BinFile(99)), Contains("version 99"));
  CHECK_THAT(refusal(BinFile(101, -4)), Contains("n_vocab -4"));
  CHECK_THAT(refusal(BinFile(101, 4, 6, 0)), Contains("n_layer 0"));
  CHECK_THAT(refusal(BinFile().begin().end().i32s({5, 1, 0})), Contains("5 dimensions"));
  CHECK_THAT(refusal(BinFile().i32s({-1, 1, 0})), Contains("entry at byte 24"));
  CHECK_THAT(refusal(BinFile().i32s({1, 257, 0})), Contains("name of 257"));
  CHECK_THAT(refusal(BinFile().i32s({1, -1, 0})), Contains("name of -1"));
  CHECK_THAT(refusal(BinFile().i32s({1, 1, 4})), Contains("unknown data type 4"));
  CHECK_THAT(refusal(BinFile(100).i32s({1, 1, 2})), Contains("old layout"));
  CHECK_THAT(refusal(BinFile().i32s({1, 1, 0, -6, 'x'})), Contains("zero or negative"));
  CHECK_THAT(refusal(BinFile().i32s({1, 1, 0, 6, 1})), Contains("printable"));
  CHECK_THAT(refusal(BinFile().head("x", 0, {2147483647, 2147483647, 2147483647, 2147483647})),
             Contains("more elements"));
  CHECK_THAT(refusal(BinFile().head("x", 0, {2147483647, 4})), Contains("is truncated"));
  CHECK_THAT(refusal(BinFile().head("x", 3, {32, 2})), Contains("divisible by 32"));
  CHECK_THAT(refusal(BinFile().begin().begin().end()), Contains("emb.weight occurs twice"));
  CHECK_THAT(refusal(BinFile().begin()), Contains("blocks.0.ln1.weight is missing"));
  CHECK_THAT(refusal(BinFile(101, 4, 6, 2147483647).begin().end()), Contains("is truncated"));
  CHECK_THAT(refusal(BinFile(101, 5).begin().end()), Contains("header says 5x6"));
  CHECK_THAT(refusal(BinFile()
                         .begin()
                         .f32(kAtt + "k_k", {6}, noise_values(1, 6))
                         .f32(kAtt + "x_rwkvag", {5, 1, 6}, noise_values(1, 30))
                         .end()),
             Contains("expected 6x1x6"));
  CHECK_THAT(refusal(BinFile()
                         .begin()
                         .f32(kAtt + "k_k", {6}, noise_values(1, 6))
                         .f32(kAtt + "x_r", {6}, noise_values(1, 6))
                         .f32(kAtt + "x_rwkvag", {6, 1, 6}, noise_values(1, 36))
                         .end()),
             Contains("x_r") && Contains("twice"));
}

TEST_CASE("damaged rwkv.cpp files never do worse than a status", "[rwkv_cpp]") {
  const BinFile file = BinFile()
                           .begin()
                           .f32(kAtt + "time_maa_x", {6}, noise_values(6, 6))
                           .f32(kAtt + "time_maa_w1", {10, 6}, noise_values(7, 60))
                           .f32(kAtt + "time_decay", {2, 3, 1}, noise_values(8, 6))
                           .f32(kAtt + "time_faaaa", {2, 3, 1}, noise_values(9, 6))
                           .end();
  test::check_every_cut_is_refused(file.bytes, open_rwkv_cpp);
  test::check_bit_flips(file.bytes, open_rwkv_cpp);
}

TEST_CASE("rwkv.cpp's and BlinkDL's form of a trained model are equal", "[rwkv_cpp]") {
  for (const std::string name : {"tiny-rwkv-5v2-730K-FP32", "tiny-rwkv-6v0-1m-FP32"}) {
    const auto bin = test::test_data("models/" + name + ".bin", "rwkv.cpp against safetensors");
    const auto st = test::test_data("models/" + name + ".safetensors", "rwkv.cpp parity");
    if (!bin || !st) {
      return;
    }
    auto ours = open_rwkv_cpp(*bin);
    auto theirs = open_safetensors(*st);
    REQUIRE_OK(ours.status());
    REQUIRE_OK(theirs.status());
    std::map<std::string, size_t> by_name;
    for (size_t i = 0; i < theirs.value()->tensors().size(); ++i) {
      by_name[theirs.value()->tensors()[i].name] = i;
    }
    REQUIRE(ours.value()->tensors().size() == by_name.size());
    const bool decay_changed = name.find("5v2") != std::string::npos;
    for (size_t i = 0; i < by_name.size(); ++i) {
      const TensorInfo& info = ours.value()->tensors()[i];
      INFO(name << " " << info.name);
      REQUIRE(by_name.count(info.name) == 1);
      const TensorInfo& other = theirs.value()->tensors()[by_name[info.name]];
      if (info.shape.size() > 1) {  // the converter squeezed vectors
        REQUIRE(info.shape == other.shape);
      }
      const auto a = floats_of(*ours.value(), i);
      const auto b = floats_of(*theirs.value(), by_name[info.name]);
      REQUIRE(a.size() == b.size());
      if (!decay_changed || !info.name.ends_with(".time_decay")) {
        REQUIRE(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
        continue;
      }
      for (size_t j = 0; j < a.size(); ++j) {  // compared as the model uses it
        REQUIRE(exp_exp(static_cast<double>(a[j])) ==
                Approx(exp_exp(static_cast<double>(b[j]))).epsilon(1e-6));
      }
    }
  }
}

TEST_CASE("all trained rwkv.cpp models open", "[rwkv_cpp]") {
  for (const char* name : {"4v0-660K", "5v1-730K", "7v0-834K"}) {
    const auto path =
        test::test_data(fmt::format("models/tiny-rwkv-{}-FP32.bin", name), "rwkv.cpp models open");
    if (!path) {
      return;
    }
    auto opened = open_rwkv_cpp(*path);
    REQUIRE_OK(opened.status());
    test::check_reads_agree(*opened.value());
    for (size_t i = 0; i < opened.value()->tensors().size(); ++i) {
      for (const float value : floats_of(*opened.value(), i)) {
        REQUIRE(std::isfinite(value));
      }
    }
  }
}

}  // namespace rwkv
