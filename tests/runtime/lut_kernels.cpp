// Products with lut codecs in every kernel set: each weight against its own input, and the bits of
// the generic set.
#include "formats/codec/lut.h"
#include "tests/runtime/kernel_testing.h"

using namespace rwkv;
using namespace rwkv::edge;
using namespace rwkv::test;

namespace {

// Any codes; row scales are powers of two, so that products with 127 are exact.
Encoded exact_lut(const CodecTraits& codec, uint64_t rows, uint64_t cols) {
  LutMatrix matrix = lut_matrix(*codec.lut, rows, cols);
  uint64_t state = rows + cols;
  const auto next = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<unsigned>(state >> 40);
  };
  for (uint8_t& code : matrix.codes) {
    code = static_cast<uint8_t>(next() % (1u << codec.lut->bits));
  }
  for (int8_t& scale : matrix.scales) {
    scale = static_cast<int8_t>(static_cast<int>(next() % 255) - 127);
  }
  for (float& scale : matrix.row_scales) {
    scale = std::ldexp(1.0f, -static_cast<int>(next() % 9));
  }
  for (size_t i = 0; codec.lut->bits < 6 && i < size_t{1} << codec.lut->bits; ++i) {
    matrix.table[i] = static_cast<int8_t>(static_cast<int>(next() % 128) - 64);
  }
  Encoded result;
  const uint64_t n_bytes = codec.encoded_bytes(rows, cols);
  result.buffer.resize(n_bytes + 1);
  const auto bytes = std::span(result.buffer).subspan(1, n_bytes);
  REQUIRE_OK(lut_pack(matrix, codec.codec, bytes));
  result.view = MatrixView::of(bytes.data(), codec.codec, rows, cols);
  result.decoded.resize(rows * cols);
  codec.decode_rows(result.view, 0, rows, result.decoded);
  return result;
}

}  // namespace

TEST_CASE("Lut codecs: every weight is multiplied with its own input, exactly", "[kernels]") {
  const KernelSet& table = each_table();
  const uint64_t cols = GENERATE(1, 63, 64, 65, 192, 256, 333);
  const uint64_t rows = GENERATE(3, 16, 37);
  for (const CodecTraits& codec : codec_list()) {
    if (!codec.lut) {
      continue;
    }
    CAPTURE(codec.name, rows, cols);
    const Encoded w = exact_lut(codec, rows, cols);
    // Token t has 127 in column t and nothing else: a step of 1.
    PreparedInputs x(table, codec.codec, cols, cols, 1);
    for (size_t t = 0; t < cols; ++t) {
      std::fill_n(x.x.begin() + static_cast<std::ptrdiff_t>(t * cols), cols, 0.0f);
      x.x[t * cols + t] = 127.0f;
      const size_t group = t * n_byte_groups(cols);
      table.quantize_bytes(x.x.data() + t * cols, cols, x.bytes.data() + group * kByteGroup,
                           x.byte_steps.data() + group, x.byte_sums.data() + group);
    }
    const std::vector<float> y = product(table, w.view, x.inputs);
    const std::vector<float> alone = product(table, w.view, x.token(cols / 2));
    for (size_t r = 0; r < rows; ++r) {
      REQUIRE(alone[r] == 127.0f * w.decoded[r * cols + cols / 2]);
      for (size_t c = 0; c < cols; ++c) {
        REQUIRE(y[c * rows + r] == 127.0f * w.decoded[r * cols + c]);
      }
    }
    if (!has_single_rows(codec)) {
      continue;
    }
    CHECK((gathered_product(table, w.view, 1, RowOrder::Scattered, x.inputs) == y));
    ScaledRows added{w, {}, {}};
    for (uint32_t r = 0; r < rows; ++r) {
      added.add(r);
    }
    for (uint32_t r = 0; r < rows; ++r) {
      std::vector<float> one(rows);
      one[r] = 1.0f;
      std::vector<float> sums(cols);
      added.add_to(sums, table, one, 1, rows, cols / 2);
      REQUIRE(std::equal(sums.begin(), sums.end(),
                         w.decoded.begin() + static_cast<std::ptrdiff_t>(r * cols)));
    }
  }
}

TEST_CASE("Lut codecs: sums of scaled rows have the bits of the generic set", "[kernels]") {
  const KernelSet& table = each_table();
  const uint64_t cols = GENERATE(64, 200, 1000);
  const size_t n_tokens = GENERATE(1, 5, 37);
  for (const CodecTraits& codec : codec_list()) {
    if (!codec.lut || !has_single_rows(codec)) {
      continue;
    }
    CAPTURE(codec.name, cols, n_tokens);
    const uint64_t rows = 131;
    const Encoded w = encode(codec.codec, rows, cols);
    std::vector<float> a = random_vector(n_tokens * rows, 11);
    for (size_t i = 0; i < a.size(); i += 3) {
      a[i] = 0.0f;  // rows that some tokens leave out
    }
    ScaledRows added{w, {}, {}};
    for (uint32_t r = 0; r < rows; r += r % 5 == 0 ? 2 : 1) {
      added.add(r);
    }
    std::vector<float> y(n_tokens * cols, 0.5f);
    std::vector<float> plain = y;
    added.add_to(y, table, a, n_tokens, added.ids.size(), 64);
    added.add_to(plain, *kernel_list().front(), a, n_tokens, 3, cols);
    REQUIRE((y == plain));
  }
}

namespace {

// Both the same number, or neither a number.
bool same_values(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float left, float right) {
    return left == right || (std::isnan(left) && std::isnan(right));
  });
}

// A matrix whose header is in order, as a model that opens has it; all else is noise, scales that
// are no numbers too.
Encoded hostile_lut(const CodecTraits& codec, uint64_t rows, uint64_t cols) {
  Encoded result = exact_lut(codec, rows, cols);
  const size_t header = codec.shared_bytes(cols);
  uint64_t state = rows * cols;
  for (size_t at = 1 + header; at < result.buffer.size(); ++at) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    result.buffer[at] = static_cast<std::byte>(state >> 56);
  }
  const float odd[] = {NAN, INFINITY, -1e-40f, 0.0f, -0.25f, 3.0f};
  const size_t unit_bytes = codec.unit_bytes(cols);
  for (uint64_t r = 0; r < rows; ++r) {
    std::byte* const unit = result.buffer.data() + 1 + header + r / codec.unit_rows * unit_bytes;
    std::memcpy(unit + 4 * (r % codec.unit_rows), &odd[r % std::size(odd)], sizeof(float));
  }
  result.decoded.assign(rows * cols, 0.0f);
  codec.decode_rows(result.view, 0, rows, result.decoded);
  return result;
}

}  // namespace

TEST_CASE("Lut codecs: noise for codes and scales gives numbers or NaN, the same in every set",
          "[kernels]") {
  const KernelSet& table = each_table();
  const KernelSet& generic = *kernel_list().front();
  for (const CodecTraits& codec : codec_list()) {
    if (!codec.lut) {
      continue;
    }
    CAPTURE(codec.name);
    const uint64_t rows = 37;
    const uint64_t cols = 200;
    const Encoded w = hostile_lut(codec, rows, cols);
    const PreparedInputs x(table, codec.codec, 5, cols, 3);
    CHECK(same_values(product(table, w.view, x.inputs), product(generic, w.view, x.inputs)));
    if (!has_single_rows(codec)) {
      continue;
    }
    CHECK(same_values(gathered_product(table, w.view, 3, RowOrder::Scattered, x.inputs),
                      gathered_product(generic, w.view, 3, RowOrder::Scattered, x.inputs)));
    ScaledRows added{w, {}, {}};
    for (uint32_t r = 0; r < rows; ++r) {
      added.add(r);
    }
    const std::vector<float> a = random_vector(5 * rows, 11);
    std::vector<float> y(5 * cols);
    std::vector<float> plain = y;
    added.add_to(y, table, a, 5, rows, cols);
    added.add_to(plain, generic, a, 5, rows, cols);
    CHECK(same_values(y, plain));
  }
}
