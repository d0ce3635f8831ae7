// Matrices as codes into a table: layouts against the tables of docs/packed_format.md, written here
// a second time; scales and codes against a search over all of them.
#include "formats/codec/lut.h"

#include <cmath>
#include <vector>

#include "formats/base/little_endian.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

namespace rwkv {
namespace {

using Bytes = std::vector<std::byte>;
using Catch::Contains;

std::vector<Codec> lut_codecs() {
  std::vector<Codec> found;
  for (const CodecTraits& codec : codec_list()) {
    if (codec.lut) {
      found.push_back(codec.codec);
    }
  }
  return found;
}

// Any codes and scales, row scales of powers of two.
LutMatrix random_matrix(const LutKind& kind, uint64_t rows, uint64_t cols) {
  LutMatrix matrix = lut_matrix(kind, rows, cols);
  uint64_t state = rows * 1000 + cols;
  const auto next = [&] { return state = state * 6364136223846793005u + 1442695040888963407u; };
  for (uint8_t& code : matrix.codes) {
    code = static_cast<uint8_t>(next() >> 33 & ((1u << kind.bits) - 1));
  }
  for (int8_t& scale : matrix.scales) {
    scale = static_cast<int8_t>(static_cast<int>(next() >> 33 & 0xff) % 255 - 127);
  }
  for (float& scale : matrix.row_scales) {
    scale = std::ldexp(1.0f, -static_cast<int>(next() >> 60));
  }
  for (size_t i = 0; kind.bits < 6 && i < size_t{1} << kind.bits; ++i) {
    matrix.table[i] = static_cast<int8_t>(static_cast<int>(next() >> 33 & 0x7f) - 64);
  }
  return matrix;
}

Bytes packed(const LutMatrix& matrix, Codec codec) {
  Bytes bytes(codec_traits(codec).encoded_bytes(matrix.rows, matrix.cols), std::byte{0xa5});
  REQUIRE_OK(lut_pack(matrix, codec, bytes));
  return bytes;
}

unsigned bits_at(const Bytes& bytes, size_t byte, unsigned shift, unsigned n) {
  return static_cast<unsigned>(bytes[byte]) >> shift & ((1u << n) - 1);
}

// As the page of the format says: a tile's vectors of 64 bytes, byte 4 i + j of row i, column j of
// a quad.
unsigned code_in_tile(const Bytes& bytes, size_t group_at, unsigned bits, unsigned row,
                      unsigned col) {
  const size_t q = col / 4;
  const size_t at = group_at + 4 * row + col % 4;
  const size_t half = q / 8;
  const size_t h = q % 8;
  const auto vector = [&](size_t v, size_t shift, unsigned n) {
    return bits_at(bytes, at + 64 * v, static_cast<unsigned>(shift), n);
  };
  switch (bits) {
    case 2:
      return vector(q / 4, 2 * (q % 4), 2);
    case 3: {
      const size_t a = 3 * half;
      return h == 0   ? vector(a, 0, 3)
             : h == 1 ? vector(a, 3, 3)
             : h == 2 ? vector(a + 1, 0, 3)
             : h == 3 ? vector(a + 1, 3, 3)
             : h == 4 ? vector(a + 2, 0, 3)
             : h == 5 ? vector(a + 2, 3, 3)
             : h == 6 ? vector(a, 6, 2) | vector(a + 1, 6, 1) << 2
                      : vector(a + 2, 6, 2) | vector(a + 1, 7, 1) << 2;
    }
    case 4:
      return vector(q / 2, q % 2 * 4, 4);
    case 5:
      return vector(5 * half + h / 2, h % 2 * 4, 4) | vector(5 * half + 4, h, 1) << 4;
    default:
      return vector(6 * half + h / 2, h % 2 * 4, 4) | vector(6 * half + 4 + h / 4, h % 4 * 2, 2)
                                                          << 4;
  }
}

unsigned code_in_row(const Bytes& bytes, size_t at, unsigned bits, unsigned col) {
  // Rows of 2 and 3 bits are shorter than 32 bytes.
  const auto nibble = [&] { return bits_at(bytes, at + col % 32, col / 32 * 4, 4); };
  switch (bits) {
    case 2:
      return bits_at(bytes, at + col % 16, col / 16 * 2, 2);
    case 3:
      return bits_at(bytes, at + col % 16, col / 16 * 2, 2) |
             bits_at(bytes, at + 16 + col / 8, col % 8, 1) << 2;
    case 4:
      return nibble();
    case 5:
      return nibble() | bits_at(bytes, at + 32 + col / 8, col % 8, 1) << 4;
    default:
      return nibble() | bits_at(bytes, at + 32 + col % 16, col / 16 * 2, 2) << 4;
  }
}

// Where things lie in a tile, walked through from its start.
void check_tile_row(const LutMatrix& matrix, const Bytes& bytes, const LutKind& kind,
                    uint64_t row) {
  const uint64_t padded = (matrix.cols + 63) / 64 * 64;
  const uint64_t n_groups = padded / kind.group;
  uint64_t unit = 64;
  for (uint64_t left = padded; left > 0; left -= std::min<uint64_t>(left, 256)) {
    const uint64_t here = std::min<uint64_t>(left, 256);
    unit += (here / kind.group * 16 + 63) / 64 * 64 + here / 64 * 128 * kind.bits;
  }
  const unsigned i = row % 16;
  uint64_t at = 64 + row / 16 * unit;
  REQUIRE(load_le<float>(bytes.data() + at + 4 * i) == matrix.row_scales[row]);
  at += 64;
  for (uint64_t first = 0; first < padded; first += 256) {
    const uint64_t here = std::min<uint64_t>(padded - first, 256);
    for (uint64_t g = 0; g < here / kind.group; ++g) {
      REQUIRE(static_cast<int8_t>(bytes[at + 16 * g + i]) ==
              matrix.scales[row * n_groups + first / kind.group + g]);
    }
    at += (here / kind.group * 16 + 63) / 64 * 64;
    for (uint64_t c = first; c < std::min(first + here, matrix.cols); ++c) {
      const uint64_t group_at = at + (c - first) / 64 * 128 * kind.bits;
      REQUIRE(code_in_tile(bytes, group_at, kind.bits, i, c % 64) ==
              matrix.codes[row * matrix.cols + c]);
    }
    at += here / 64 * 128 * kind.bits;
  }
}

void check_single_row(const LutMatrix& matrix, const Bytes& bytes, const LutKind& kind,
                      uint64_t row) {
  const uint64_t n_groups = (matrix.cols + 63) / 64 * 64 / kind.group;
  const uint64_t header = (4 + n_groups + 7) / 8 * 8;
  const uint64_t at = 64 + row * (header + (matrix.cols + 63) / 64 * 8 * kind.bits);
  REQUIRE(load_le<float>(bytes.data() + at) == matrix.row_scales[row]);
  for (uint64_t g = 0; g < n_groups; ++g) {
    REQUIRE(static_cast<int8_t>(bytes[at + 4 + g]) == matrix.scales[row * n_groups + g]);
  }
  for (uint64_t c = 0; c < matrix.cols; ++c) {
    REQUIRE(code_in_row(bytes, at + header + c / 64 * 8 * kind.bits, kind.bits, c % 64) ==
            matrix.codes[row * matrix.cols + c]);
  }
}

}  // namespace

TEST_CASE("Lut codecs: every bit lies where the page of the format says", "[lut]") {
  for (const Codec codec : lut_codecs()) {
    const LutKind& kind = *codec_traits(codec).lut;
    for (const uint64_t cols : {1, 63, 64, 65, 192, 256, 257, 320, 1000}) {
      for (const uint64_t rows : {1, 15, 16, 17, 37}) {
        CAPTURE(codec_traits(codec).name, rows, cols);
        const LutMatrix matrix = random_matrix(kind, rows, cols);
        const Bytes bytes = packed(matrix, codec);
        for (size_t i = 0; i < 32; ++i) {
          const bool is_used = kind.bits < 6 && i < size_t{1} << kind.bits;
          REQUIRE(static_cast<int8_t>(bytes[i]) == (is_used ? matrix.table[i] : 0));
        }
        REQUIRE(static_cast<int>(bytes[32]) == kind.bits);
        REQUIRE(static_cast<int>(bytes[33]) == (kind.layout == LutLayout::Tiles ? 1 : 0));
        REQUIRE(load_le<uint16_t>(bytes.data() + 34) == kind.group);
        for (uint64_t row = 0; row < rows; ++row) {
          kind.layout == LutLayout::Tiles ? check_tile_row(matrix, bytes, kind, row)
                                          : check_single_row(matrix, bytes, kind, row);
        }
      }
    }
  }
}

TEST_CASE("Lut codecs: what was packed is unpacked, and decodes to its product", "[lut]") {
  for (const Codec codec : lut_codecs()) {
    const LutKind& kind = *codec_traits(codec).lut;
    CAPTURE(codec_traits(codec).name);
    const LutMatrix matrix = random_matrix(kind, 35, 333);
    const Bytes bytes = packed(matrix, codec);
    const MatrixView w = MatrixView::of(bytes.data(), codec, matrix.rows, matrix.cols);
    const LutMatrix back = lut_unpack(w);
    CHECK(back.codes == matrix.codes);
    CHECK(back.scales == matrix.scales);
    CHECK(back.row_scales == matrix.row_scales);
    CHECK(back.table == matrix.table);
    CHECK(packed(back, codec) == bytes);
    std::vector<float> values(matrix.rows * matrix.cols);
    codec_traits(codec).decode_rows(w, 0, matrix.rows, values);
    const uint64_t n_groups = lut_n_groups(kind, matrix.cols);
    for (uint64_t i = 0; i < values.size(); ++i) {
      const uint64_t row = i / matrix.cols;
      const int steps = matrix.scales[row * n_groups + i % matrix.cols / kind.group] *
                        matrix.table[matrix.codes[i]];
      REQUIRE(values[i] == matrix.row_scales[row] * static_cast<float>(steps));
    }
  }
}

TEST_CASE("Lut codecs: bytes of large matrices", "[lut]") {
  const auto bits = [](const char* name, uint64_t rows, uint64_t cols) {
    return 8.0 * static_cast<double>(find_codec(name)->encoded_bytes(rows, cols)) /
           static_cast<double>(rows * cols);
  };
  CHECK(bits("lut3", 2048, 2048) == Approx(3.1407).margin(5e-5));
  CHECK(bits("lut4", 2048, 2048) == Approx(4.1407).margin(5e-5));
}

TEST_CASE("Lut codecs: matrices that do not fit are refused, naming what", "[lut]") {
  const LutKind& kind = *codec_traits(Codec::Lut3).lut;
  Bytes bytes(codec_traits(Codec::Lut3).encoded_bytes(3, 70));
  const auto refused = [&](const auto& change, const char* message) {
    LutMatrix matrix = lut_matrix(kind, 3, 70);
    change(matrix);
    const Status status = lut_pack(matrix, Codec::Lut3, bytes);
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains(message));
  };
  refused([](LutMatrix& m) { m.codes[75] = 8; }, "row 1, column 5 has the code 8");
  refused([](LutMatrix& m) { m.codes.pop_back(); }, "has 209 codes");
  refused([](LutMatrix& m) { m.scales[3] = -128; }, "row 1 has a group with the scale -128");
  refused([](LutMatrix& m) { m.row_scales[2] = std::nanf(""); }, "row 2 has the scale nan");
  refused([](LutMatrix& m) { m.table[7] = 64; }, "table of a lut3 matrix");
  CHECK_FALSE(lut_pack(lut_matrix(kind, 3, 70), Codec::I8Row, bytes).ok());
  CHECK_FALSE(lut_pack(lut_matrix(kind, 4, 70), Codec::Lut3, std::span(bytes).first(9)).ok());
}

TEST_CASE("Lut codecs: headers that kernels may not use are refused", "[lut]") {
  for (const Codec codec : lut_codecs()) {
    const CodecTraits& traits = codec_traits(codec);
    CAPTURE(traits.name);
    const Bytes good = packed(lut_matrix(*traits.lut, 1, 64), codec);
    REQUIRE_OK(traits.check_shared(std::span(good).first(64)));
    const auto refused = [&](size_t at, uint8_t value, const char* message) {
      Bytes bytes(good.begin(), good.begin() + 64);
      bytes[at] = static_cast<std::byte>(value);
      const Status status = traits.check_shared(bytes);
      CHECK(status.code() == Code::BadInput);
      CHECK_THAT(status.message(), Contains(message) && Contains("the file is damaged"));
    };
    refused(32, 7, "7 bits");
    refused(33, 9, "layout 9");
    refused(34, 48, "groups of 48");
    refused(35, 1, "groups of");
    refused(0, 100, "value 0 of its table is 100");
    refused(0, 0x80, "value 0 of its table is -128");
  }
}

namespace {

// By trying every code.
uint8_t nearest_of_all(const LutTable& table, unsigned bits, float value) {
  uint8_t best = 0;
  for (uint8_t code = 1; code < 1u << bits; ++code) {
    if (std::fabs(value - static_cast<float>(table[code])) <
        std::fabs(value - static_cast<float>(table[best]))) {
      best = code;
    }
  }
  return best;
}

}  // namespace

TEST_CASE("Lut codecs: the nearest code is the nearest of all", "[lut]") {
  for (const unsigned bits : {2u, 3u, 4u, 5u, 6u}) {
    const LutTable table = lut_table(bits);
    const LutCodebook codebook(table, bits);
    for (int i = -3000; i <= 3000; ++i) {
      const float value = static_cast<float>(i) * 0.05f + 0.0137f;
      const uint8_t wanted = nearest_of_all(table, bits, value);
      CAPTURE(bits, value);
      REQUIRE(codebook.nearest(value) == wanted);
    }
    CHECK(codebook.nearest(1e30f) == (1u << bits) - 1);
    CHECK(codebook.nearest(-1e30f) == 0);
  }
}

namespace {

double squared_error(const std::vector<float>& values, const std::vector<float>& weights,
                     const LutMatrix& matrix, const LutKind& kind) {
  double error = 0;
  for (size_t c = 0; c < values.size(); ++c) {
    const int steps = matrix.scales[c / kind.group] * matrix.table[matrix.codes[c]];
    const double off = static_cast<double>(values[c]) -
                       static_cast<double>(matrix.row_scales[0] * static_cast<float>(steps));
    error += (weights.empty() ? 1.0 : static_cast<double>(weights[c])) * off * off;
  }
  return error;
}

// Sums of uniform noise, nearly normal as weights are.
std::vector<float> normal_row(size_t n, uint64_t seed) {
  std::vector<float> row(n);
  for (size_t i = 0; i < n; ++i) {
    for (uint64_t k = 0; k < 6; ++k) {
      row[i] += test::noise(seed * 10 + k, i);
    }
  }
  return row;
}

}  // namespace

TEST_CASE("Lut codecs: the error is that of the best scale and its codes", "[lut]") {
  // Lloyd-Max quantizers of normal values lose these shares of their energy; scales of groups and
  // their rounding move that a little.
  const std::pair<unsigned, double> kLosses[] = {
      {2, 0.118}, {3, 0.0345}, {4, 0.0095}, {5, 0.0025}, {6, 0.0012}};
  for (const auto& [bits, loss] : kLosses) {
    const LutKind kind = {static_cast<uint8_t>(bits), LutLayout::Rows, 64};
    const LutCodebook codebook(lut_table(bits), bits);
    double error = 0;
    double energy = 0;
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const std::vector<float> row = normal_row(512, seed);
      LutMatrix matrix = lut_matrix(kind, 1, row.size());
      lut_nearest_row(row, {}, codebook, kind.group, lut_row(matrix, 0));
      error += squared_error(row, {}, matrix, kind);
      for (const float value : row) {
        energy += static_cast<double>(value) * static_cast<double>(value);
      }
      // No other scale of a group is better by more than the search is coarse.
      LutMatrix other = matrix;
      for (int s = -127; s <= 127; ++s) {
        other.scales[0] = static_cast<int8_t>(s);
        lut_nearest_codes(row, codebook, kind.group, lut_row(other, 0));
        CHECK(squared_error(row, {}, other, kind) > 0.93 * squared_error(row, {}, matrix, kind));
      }
    }
    CAPTURE(bits, error / energy);
    CHECK(error / energy < 1.02 * loss);
  }
}

TEST_CASE("Lut codecs: heavier columns come out closer", "[lut]") {
  const LutKind kind = {3, LutLayout::Rows, 64};
  const LutCodebook codebook(lut_table(3), 3);
  double plain = 0;
  double weighted = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const std::vector<float> row = normal_row(256, seed);
    std::vector<float> weights(row.size(), 1.0f);
    for (size_t i = 0; i < weights.size(); i += 7) {
      weights[i] = 100.0f;
    }
    LutMatrix matrix = lut_matrix(kind, 1, row.size());
    lut_nearest_row(row, {}, codebook, kind.group, lut_row(matrix, 0));
    plain += squared_error(row, weights, matrix, kind);
    lut_nearest_row(row, weights, codebook, kind.group, lut_row(matrix, 0));
    weighted += squared_error(row, weights, matrix, kind);
  }
  CHECK(weighted < 0.9 * plain);
}

TEST_CASE("Lut codecs: groups of very different size keep their own scale", "[lut]") {
  const LutKind kind = {4, LutLayout::Rows, 64};
  const LutCodebook codebook(lut_table(4), 4);
  std::vector<float> row = normal_row(192, 1);
  for (size_t i = 64; i < 128; ++i) {
    row[i] *= 1e-5f;  // less than a step of the row: zeros are nearest
  }
  for (size_t i = 128; i < 192; ++i) {
    row[i] = 0.0f;
  }
  LutMatrix matrix = lut_matrix(kind, 1, row.size());
  lut_nearest_row(row, {}, codebook, kind.group, lut_row(matrix, 0));
  CHECK(std::abs(matrix.scales[0]) == 127);
  CHECK(matrix.scales[1] == 0);
  CHECK(matrix.scales[2] == 0);
}

}  // namespace rwkv
