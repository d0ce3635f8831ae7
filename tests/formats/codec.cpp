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

Floats decode(const CodecTraits& codec, const Bytes& bytes, Size size) {
  Floats values(size.rows * size.cols, std::nanf(""));
  codec.decode_rows(bytes, size.rows, size.cols, 0, size.rows, values);
  return values;
}

float f32_at(const Bytes& bytes, uint64_t at) {
  return load_le<float>(bytes.data() + at);
}

// How far a decoded value may be from the original, by the codec's definition.
double bound(Codec codec, const Bytes& bytes, Size size, uint64_t r, uint64_t c, double value) {
  switch (codec) {
    case Codec::F32:
      return 0;
    case Codec::F16: {
      const int exponent = value == 0 ? -14 : std::max(std::ilogb(value), -14);
      return std::ldexp(0.5, exponent - 10);
    }
    case Codec::I8Row: {
      const uint64_t row = r * i8_row_bytes(size.cols);
      const double scale = f32_at(bytes, row);
      const double offset = std::fabs(f32_at(bytes, row + kI8RowOffsetAt));
      // Half a step, and the rounding of scale, offset and product. A row whose scale has no
      // finite inverse is its offset alone: a range under 255 / FLT_MAX.
      const double unit = 0x1p-22;
      return scale == 0 ? 7.6e-37 + offset * unit
                        : scale * 0.5 + (offset + 128 * scale + std::fabs(value)) * unit + 1e-43;
    }
    case Codec::Mm8: {
      const Mm8Layout at = mm8_layout(size.rows, size.cols);
      const double step = static_cast<double>(f32_at(bytes, 4 * r)) *
                          static_cast<double>(f32_at(bytes, at.col_scale + 4 * c));
      const double offsets = std::fabs(f32_at(bytes, at.row_offset + 4 * r)) +
                             std::fabs(f32_at(bytes, at.col_offset + 4 * c));
      // Half a step of 1/256 and the rounding of offsets and products; the divided scales of
      // denormal values lose their last bits.
      return step * (0.5 + 1e-3) + (offsets + 256 * step) * 0x1p-21 + 2e-42;
    }
    case Codec::SignRow:
      return kInfinity;  // two levels, wherever the numbers are; has a test of its own
  }
  return 0;
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
  REQUIRE(names.size() == 5);
  REQUIRE(find_codec("i9_row") == nullptr);
  REQUIRE(find_codec("") == nullptr);
}

TEST_CASE("Codecs: sizes agree with each other") {
  for (const CodecTraits& codec : codec_list()) {
    for (const Size size : kSizes) {
      INFO(codec.name << " " << size.rows << "x" << size.cols);
      const uint64_t whole = codec.encoded_bytes(size.rows, size.cols);
      if (codec.row_wise) {
        REQUIRE(whole == size.rows * codec.row_bytes(size.cols));
      } else {
        REQUIRE(whole == mm8_layout(size.rows, size.cols).total);
        REQUIRE(whole > size.rows * codec.row_bytes(size.cols));
      }
      // Files are checked by this: no codec takes less than a bit per number.
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
            const double limit =
                bound(codec.codec, bytes, size, i / size.cols, i % size.cols, values[i]);
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

TEST_CASE("Codec i8_row: scale, offset, numbers and zero padding of a row") {
  // 255 steps from -126 to 129: the scale is 1, and -126 is q = -128, so the offset is 2.
  const Bytes bytes = encode(kCodecI8Row, {-126.0f, 0.25f, 129.0f, 1.75f, -125.0f}, {1, 5});
  REQUIRE(bytes.size() == kI8RowHeader + 8);
  REQUIRE(f32_at(bytes, 0) == 1.0f);
  REQUIRE(f32_at(bytes, kI8RowOffsetAt) == 2.0f);
  const std::vector<int> wanted = {-128, -2, 127, 0, -127, 0, 0, 0};
  for (size_t i = 0; i < wanted.size(); ++i) {
    REQUIRE(static_cast<int8_t>(bytes[kI8RowHeader + i]) == wanted[i]);
  }
}

TEST_CASE("Codec sign_row: the means of both halves, bits, zero padding") {
  // The mean is 1: above it 3 and 5, not above it 1, -1 and -3.
  const Size size = {1, 5};
  const Bytes bytes = encode(kCodecSignRow, {3.0f, 1.0f, 5.0f, -1.0f, -3.0f}, size);
  REQUIRE(bytes.size() == kSignRowHeader + 4);
  REQUIRE(bytes[kSignRowHeader] == std::byte{0b00101});
  REQUIRE(bytes[kSignRowHeader + 1] == std::byte{0});
  const Floats found = decode(kCodecSignRow, bytes, size);
  REQUIRE(found == Floats{4.0f, -1.0f, 4.0f, -1.0f, -1.0f});
  // What has two levels comes back as it is.
  REQUIRE(encode(kCodecSignRow, found, size) == bytes);
  REQUIRE(decode(kCodecSignRow, encode(kCodecSignRow, {2.5f, 2.5f}, {1, 2}), {1, 2}) ==
          Floats{2.5f, 2.5f});
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
                 Contains("row 2, column 3") && Contains(codec.name) && Contains("another codec"));
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
          codec.decode_rows(bytes, size.rows, size.cols, first, n, part);
          const auto from = whole.begin() + static_cast<ptrdiff_t>(first * size.cols);
          REQUIRE(std::equal(part.begin(), part.end(), from));
        }
      }
    }
  }
}

TEST_CASE("Codecs: slices of rows encode to the same bytes as the whole") {
  for (const CodecTraits& codec : codec_list()) {
    if (!codec.row_wise) {
      continue;
    }
    for (const Size size : kSizes) {
      const Floats values = make(kPatterns[1], size);
      const Bytes whole = encode(codec, values, size);
      Bytes joined;
      for (uint64_t first = 0, n = 1; first < size.rows; first += n, n = n % 3 + 1) {
        n = std::min(n, size.rows - first);
        const auto from = values.begin() + static_cast<ptrdiff_t>(first * size.cols);
        const Floats slice(from, from + static_cast<ptrdiff_t>(n * size.cols));
        const Bytes bytes = encode(codec, slice, {n, size.cols});
        joined.insert(joined.end(), bytes.begin(), bytes.end());
      }
      REQUIRE(joined == whole);
    }
  }
}

}  // namespace rwkv
