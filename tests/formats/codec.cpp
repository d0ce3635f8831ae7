// Codecs over awkward sizes and values: round trips within each codec's bound, refusals that name
// the place, rows that stand alone.
#include "formats/codec/codec.h"

#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Catch::Contains;
using Floats = std::vector<float>;
using Bytes = std::vector<std::byte>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Size {
  uint64_t rows;
  uint64_t cols;
};
constexpr Size kSizes[] = {{1, 1},   {1, 7},   {7, 1},   {2, 2},   {3, 5},
                           {4, 4},   {5, 3},   {1, 64},  {64, 1},  {17, 33},
                           {33, 17}, {31, 32}, {2, 255}, {9, 256}, {3, 257}};

// Fills a matrix of rows x cols; `r` and `c` are where a value lies.
using Fill = float (*)(uint64_t r, uint64_t c);
struct Pattern {
  const char* name;
  Fill fill;
};
constexpr Pattern kPatterns[] = {
    {"noise", [](uint64_t r, uint64_t c) { return test::noise(r + 1, c); }},
    {"rows of very different size",
     [](uint64_t r, uint64_t c) {
       return std::ldexp(test::noise(r + 1, c), static_cast<int>(r % 16) - 14);
     }},
    {"all zero", [](uint64_t, uint64_t) { return 0.0f; }},
    {"every other row zero",
     [](uint64_t r, uint64_t c) { return r % 2 == 0 ? 0.0f : test::noise(r, c); }},
    {"constant", [](uint64_t, uint64_t) { return -3.25f; }},
    {"positive, far from zero",
     [](uint64_t r, uint64_t c) { return 1000.0f + test::noise(r + 1, c); }},
    {"one outlier", [](uint64_t r, uint64_t c) { return r + c == 0 ? 60000.0f : 0.01f; }},
    {"denormal", [](uint64_t r, uint64_t c) { return test::noise(r + 1, c) * 1e-30f * 1e-9f; }},
    {"the least denormals", [](uint64_t r, uint64_t c) { return (r + c) % 2 ? 1e-45f : -1e-45f; }},
};

Floats make(const Pattern& pattern, Size size) {
  Floats values;
  for (uint64_t r = 0; r < size.rows; ++r) {
    for (uint64_t c = 0; c < size.cols; ++c) {
      values.push_back(pattern.fill(r, c));
    }
  }
  return values;
}

Bytes encode(const CodecTraits& codec, const Floats& values, Size size,
             Outputs outputs = Outputs::Rows) {
  // Filled beforehand: encoding must set every byte, or files would differ from run to run.
  Bytes bytes(codec.encoded_bytes(size.rows, size.cols), std::byte{0xa5});
  REQUIRE_OK(codec.encode(values, {size.rows, size.cols, outputs}, bytes));
  Bytes again(bytes.size(), std::byte{0x5a});
  REQUIRE_OK(codec.encode(values, {size.rows, size.cols, outputs}, again));
  REQUIRE(bytes == again);
  return bytes;
}

MatrixView view_of(const CodecTraits& codec, const Bytes& bytes, Size size) {
  return MatrixView::of(bytes.data(), codec.codec, size.rows, size.cols);
}

Floats decode(const CodecTraits& codec, const Bytes& bytes, Size size) {
  Floats values(size.rows * size.cols, std::nanf(""));
  codec.decode_rows(view_of(codec, bytes, size), 0, size.rows, values);
  return values;
}

float f32_at(const Bytes& bytes, uint64_t at) {
  return load_le<float>(bytes.data() + at);
}

}  // namespace

TEST_CASE("Codec list: names are unique and each codec finds itself") {
  std::set<std::string_view> names;
  for (const CodecTraits& row : codec_list()) {
    REQUIRE(names.insert(row.name).second);
    REQUIRE(codec_traits(row.codec).codec == row.codec);
    REQUIRE(find_codec(row.name) != nullptr);
    REQUIRE(find_codec(row.name)->codec == row.codec);
    REQUIRE_FALSE(std::string_view(row.summary).empty());
  }
#define RWKV_CODEC(enumerator, file) \
  REQUIRE(std::string_view(codec_traits(Codec::enumerator).name) == #file);
  RWKV_CODECS(RWKV_CODEC)
#undef RWKV_CODEC
  REQUIRE(find_codec("i9_row") == nullptr);
  REQUIRE(find_codec("") == nullptr);
}

TEST_CASE("Codecs: sizes agree with each other") {
  for (const CodecTraits& codec : codec_list()) {
    for (const Size size : kSizes) {
      INFO(codec.name << " " << size.rows << "x" << size.cols);
      const uint64_t whole = codec.encoded_bytes(size.rows, size.cols);
      const uint64_t n_units = (size.rows + codec.unit_rows - 1) / codec.unit_rows;
      REQUIRE(whole == codec.shared_bytes(size.cols) + n_units * codec.unit_bytes(size.cols));
      REQUIRE(whole * 8 >= static_cast<uint64_t>(codec.bits) * size.rows * size.cols);
      // Files are checked by this: no codec takes less than a bit per value.
      REQUIRE(whole * 8 >= size.rows * size.cols);
    }
  }
}

TEST_CASE("Codecs: every value comes back within the codec's bound") {
  for (const CodecTraits& codec : codec_list()) {
    for (const Pattern& pattern : kPatterns) {
      for (const Size size : kSizes) {
        for (const Outputs outputs : {Outputs::Rows, Outputs::Cols}) {
          INFO(codec.name << ", " << pattern.name << ", " << size.rows << "x" << size.cols);
          const Floats values = make(pattern, size);
          const Bytes bytes = encode(codec, values, size, outputs);
          const Floats found = decode(codec, bytes, size);
          for (uint64_t i = 0; i < values.size(); ++i) {
            const double error = std::fabs(static_cast<double>(found[i]) - values[i]);
            const double limit = codec.error_bound(view_of(codec, bytes, size), i / size.cols,
                                                   i % size.cols, values[i]);
            if (!(error <= limit)) {
              FAIL("value " << i << ": " << values[i] << " became " << found[i] << ", off by "
                            << error << ", " << limit << " is allowed");
            }
          }
        }
      }
    }
  }
}

TEST_CASE("Codec f32 keeps every bit pattern") {
  Floats values = {0.0f,
                   -0.0f,
                   kInfinity,
                   -kInfinity,
                   std::numeric_limits<float>::max(),
                   std::bit_cast<float>(0x7fc12345u),
                   std::bit_cast<float>(0xffc00001u),
                   std::bit_cast<float>(0x00000001u)};
  const Size size = {2, 4};
  const Floats found = decode(kCodecF32, encode(kCodecF32, values, size), size);
  for (size_t i = 0; i < values.size(); ++i) {
    REQUIRE(std::bit_cast<uint32_t>(found[i]) == std::bit_cast<uint32_t>(values[i]));
  }
}

TEST_CASE("Codec f16 stores what the conversion of single values gives") {
  const Size size = {3, 5};
  const Floats values = make(kPatterns[0], size);
  const Bytes bytes = encode(kCodecF16, values, size);
  for (size_t i = 0; i < values.size(); ++i) {
    REQUIRE(load_le<uint16_t>(bytes.data() + 2 * i) == f32_to_f16(values[i]));
  }
}

TEST_CASE("Codecs: what is not lossy stays within a half float's rounding") {
  const Size size = {9, 256};
  const Floats values = make(kPatterns[0], size);
  for (const CodecTraits& codec : codec_list()) {
    INFO(codec.name);
    const Floats found = decode(codec, encode(codec, values, size), size);
    double worst = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(found[i]) - values[i]));
    }
    REQUIRE((worst > 0x1p-11) == codec.is_lossy);
  }
}

TEST_CASE("Codec i8_row: scale, offset, codes and zero padding of a row") {
  // 255 steps from -126 to 129: the scale is 1, and -126 is q = -128, so the offset is 2.
  const Bytes bytes = encode(kCodecI8Row, {-126.0f, 0.25f, 129.0f, 1.75f, -125.0f}, {1, 5});
  REQUIRE(bytes.size() == 16);
  REQUIRE(f32_at(bytes, 0) == 1.0f);
  REQUIRE(f32_at(bytes, 4) == 2.0f);
  const std::vector<int> wanted = {-128, -2, 127, 0, -127, 0, 0, 0};
  for (size_t i = 0; i < wanted.size(); ++i) {
    REQUIRE(static_cast<int8_t>(bytes[8 + i]) == wanted[i]);
  }
}

TEST_CASE("Codec sign_row: the means of both halves, bits, zero padding") {
  // The mean is 1: above it 3 and 5, not above it 1, -1 and -3.
  const Size size = {1, 5};
  const Bytes bytes = encode(kCodecSignRow, {3.0f, 1.0f, 5.0f, -1.0f, -3.0f}, size);
  REQUIRE(bytes.size() == 8);
  REQUIRE(bytes[4] == std::byte{0b00101});
  REQUIRE(bytes[5] == std::byte{0});
  const Floats found = decode(kCodecSignRow, bytes, size);
  REQUIRE(found == Floats{4.0f, -1.0f, 4.0f, -1.0f, -1.0f});
  // What has two levels comes back as it is.
  REQUIRE(encode(kCodecSignRow, found, size) == bytes);
  REQUIRE(decode(kCodecSignRow, encode(kCodecSignRow, {2.5f, 2.5f}, {1, 2}), {1, 2}) ==
          Floats{2.5f, 2.5f});
}

TEST_CASE("Codec mm8: column scales and offsets, then rows behind their own") {
  // Rows give up their minima 1 and 5, columns theirs, 0 and 1; the largest of what is left is 2 in
  // both rows, and in column 1 all of it.
  const Size size = {2, 2};
  const Bytes bytes = encode(kCodecMm8, {1.0f, 4.0f, 5.0f, 6.0f}, size);
  REQUIRE(bytes.size() == 2 * 8 + 2 * (8 + 2));
  REQUIRE(f32_at(bytes, 8) == 0.0f);
  REQUIRE(f32_at(bytes, 12) == 1.0f);
  REQUIRE(f32_at(bytes, 20) == 1.0f);
  REQUIRE(f32_at(bytes, 30) == 5.0f);
  REQUIRE(f32_at(bytes, 16) == 2.0f / 16);
  REQUIRE(bytes[24 + 1] == std::byte{255});
  REQUIRE(bytes[34 + 1] == std::byte{0});
}

TEST_CASE("Codec i8_row keeps a constant row exactly") {
  for (const float value : {0.0f, 1.0f, -3.3f, 1e-45f, 1e38f, -1e38f}) {
    const Size size = {1, 3};
    const Bytes bytes = encode(kCodecI8Row, {value, value, value}, size);
    REQUIRE(f32_at(bytes, 0) == 0.0f);
    REQUIRE(decode(kCodecI8Row, bytes, size) == Floats{value, value, value});
  }
}

TEST_CASE("Codecs refuse what they cannot hold and say where it is") {
  const float value = GENERATE(std::nanf(""), kInfinity, -kInfinity);
  const Size size = {3, 5};
  for (const CodecTraits& codec : codec_list()) {
    if (codec.codec == Codec::F32) {
      continue;
    }
    Floats values = make(kPatterns[0], size);
    values[2 * size.cols + 3] = value;
    Bytes bytes(codec.encoded_bytes(size.rows, size.cols));
    const Status status = codec.encode(values, {size.rows, size.cols}, bytes);
    INFO(status.message());
    REQUIRE(status.code() == Code::BadInput);
    REQUIRE_THAT(status.message(),
                 Contains("row 2, column 3") && Contains(codec.name) && Contains("no codec can"));
  }
}

TEST_CASE("Codecs: huge values are refused or come back finite") {
  const float huge = GENERATE(65504.0f, 65536.0f, 1e20f, 9e36f, 1e37f, 5e37f, 1e38f, 2e38f, 3.4e38f,
                              std::numeric_limits<float>::max());
  for (const CodecTraits& codec : codec_list()) {
    for (const Size size : {Size{1, 2}, Size{2, 2}, Size{2, 9}, Size{9, 2}}) {
      for (const Outputs outputs : {Outputs::Rows, Outputs::Cols}) {
        Floats values(size.rows * size.cols);
        for (size_t i = 0; i < values.size(); ++i) {
          values[i] = i % 3 == 0 ? huge : i % 3 == 1 ? -huge : huge / 3;
        }
        Bytes bytes(codec.encoded_bytes(size.rows, size.cols));
        const Status status = codec.encode(values, {size.rows, size.cols, outputs}, bytes);
        INFO(codec.name << " of " << huge << ": " << status.message());
        if (!status.ok()) {
          REQUIRE(status.code() == Code::BadInput);
          continue;
        }
        for (const float found : decode(codec, bytes, size)) {
          REQUIRE(std::isfinite(found));
        }
      }
    }
  }
  Bytes bytes(2);
  REQUIRE(kCodecF16.encode(Floats{65504.0f}, {1, 1}, bytes).ok());
  REQUIRE_FALSE(kCodecF16.encode(Floats{65536.0f}, {1, 1}, bytes).ok());
}

TEST_CASE("Codecs: rows decoded by themselves equal the whole") {
  for (const CodecTraits& codec : codec_list()) {
    for (const Size size : kSizes) {
      const Bytes bytes = encode(codec, make(kPatterns[1], size), size);
      const Floats whole = decode(codec, bytes, size);
      for (uint64_t first = 0; first < size.rows; ++first) {
        for (const uint64_t n : {uint64_t{1}, (size.rows - first + 1) / 2, size.rows - first}) {
          Floats part(n * size.cols);
          codec.decode_rows(view_of(codec, bytes, size), first, n, part);
          const auto from = whole.begin() + static_cast<ptrdiff_t>(first * size.cols);
          REQUIRE(std::equal(part.begin(), part.end(), from));
        }
      }
    }
  }
}

TEST_CASE("Codecs: ranges of a view are the rows of the whole") {
  const Size size = {53, 33};
  for (const CodecTraits& codec : codec_list()) {
    const Bytes bytes = encode(codec, make(kPatterns[1], size), size);
    const Floats whole = decode(codec, bytes, size);
    for (uint64_t first = 0; first < size.rows; first += codec.unit_rows) {
      const uint64_t n = std::min<uint64_t>(3, size.rows - first);
      const MatrixView range = view_of(codec, bytes, size).row_range(first, n);
      Floats part(n * size.cols);
      codec.decode_rows(range, 0, n, part);
      const auto from = whole.begin() + static_cast<ptrdiff_t>(first * size.cols);
      REQUIRE(std::equal(part.begin(), part.end(), from));
    }
  }
}

TEST_CASE("Codecs: slices of whole units encode to the same bytes as the whole") {
  for (const CodecTraits& codec : codec_list()) {
    if (codec.shared_bytes(1) != 0) {
      continue;
    }
    for (const Size size : kSizes) {
      const Floats values = make(kPatterns[1], size);
      const Bytes whole = encode(codec, values, size);
      Bytes joined;
      for (uint64_t first = 0, n_units = 1; first < size.rows; n_units = n_units % 3 + 1) {
        const uint64_t n = std::min(n_units * codec.unit_rows, size.rows - first);
        const auto from = values.begin() + static_cast<ptrdiff_t>(first * size.cols);
        const Floats slice(from, from + static_cast<ptrdiff_t>(n * size.cols));
        const Bytes bytes = encode(codec, slice, {n, size.cols});
        joined.insert(joined.end(), bytes.begin(), bytes.end());
        first += n;
      }
      REQUIRE(joined == whole);
    }
  }
}

}  // namespace rwkv
