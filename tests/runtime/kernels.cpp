// Every kernel set that runs here against plain sums in double and against the generic set, with
// every codec of the list, over awkward lengths, unaligned weights, ranges of rows and columns, one
// token and many.
#include "runtime/kernels/kernels.h"

#include <array>
#include <cmath>
#include <cstdlib>

#include "formats/codec/lut.h"
#include "runtime/kernels/for_codec.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::edge;
using rwkv::test::noise;

namespace {

// An encoded matrix at an odd address, with its decoded values.
struct Encoded {
  std::vector<std::byte> buffer;
  std::vector<float> decoded;
  MatrixView view;
};

Encoded encode(Codec codec, uint64_t rows, uint64_t cols) {
  std::vector<float> values(rows * cols);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = noise(rows * 1000 + cols, i);
  }
  const CodecTraits& traits = codec_traits(codec);
  Encoded result;
  const uint64_t n_bytes = traits.encoded_bytes(rows, cols);
  result.buffer.resize(n_bytes + 1);
  const auto bytes = std::span(result.buffer).subspan(1, n_bytes);
  REQUIRE_OK(traits.encode(values, {rows, cols, Outputs::Rows}, bytes));
  result.decoded.resize(values.size());
  result.view = MatrixView::of(bytes.data(), codec, rows, cols);
  traits.decode_rows(result.view, 0, rows, result.decoded);
  return result;
}

const std::byte* row_at(const MatrixView& w, uint64_t row) {
  return w.units + row * codec_traits(w.codec).unit_bytes(w.cols);
}

std::vector<float> random_vector(size_t n, uint64_t seed) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) {
    x[i] = noise(seed, i);
  }
  return x;
}

// Inputs and what a kernel set makes of them.
struct PreparedInputs {
  std::vector<float> x;
  std::vector<int16_t> q;
  std::vector<int8_t> planes;
  std::vector<float> steps, sums, group_sums;
  std::vector<int8_t> bytes;
  std::vector<float> byte_steps;
  std::vector<int32_t> byte_sums;
  Inputs inputs;

  PreparedInputs(const KernelSet& table, Codec codec, size_t n_tokens, size_t cols, uint64_t seed)
      : x(random_vector(n_tokens * cols, seed)),
        q(n_tokens * padded_cols(cols), int16_t{-1}),
        planes(n_tokens * byte_planes_size(cols)),
        steps(n_tokens),
        sums(n_tokens),
        group_sums(n_tokens * n_group_sums(cols)),
        bytes(n_tokens * n_byte_groups(cols) * kByteGroup, int8_t{-1}),
        byte_steps(n_tokens * n_byte_groups(cols)),
        byte_sums(n_tokens * n_byte_groups(cols)) {
    for (size_t t = 0; t < n_tokens; ++t) {
      table.quantize_input(x.data() + t * cols, cols, q.data() + t * padded_cols(cols), &steps[t],
                           &sums[t]);
      sum_groups(x.data() + t * cols, cols, group_sums.data() + t * n_group_sums(cols));
      const size_t group = t * n_byte_groups(cols);
      table.quantize_bytes(x.data() + t * cols, cols, bytes.data() + group * kByteGroup,
                           byte_steps.data() + group, byte_sums.data() + group);
      if (input_form(codec) == InputForm::BytePlanes) {
        byte_inputs(q.data() + t * padded_cols(cols), cols);
        byte_planes(q.data() + t * padded_cols(cols), cols,
                    planes.data() + t * byte_planes_size(cols));
      }
    }
    inputs = {x.data(),          n_tokens,          cols,
              q.data(),          planes.data(),     steps.data(),
              sums.data(),       group_sums.data(), bytes.data(),
              byte_steps.data(), byte_sums.data()};
  }

  // Those of one token.
  Inputs token(size_t t) const {
    Inputs one = inputs;
    one.n_tokens = 1;
    one.x += t * one.cols;
    one.q += t * padded_cols(one.cols);
    one.planes += t * byte_planes_size(one.cols);
    one.step += t;
    one.sum += t;
    one.group_sums += t * n_group_sums(one.cols);
    one.bytes += t * n_byte_groups(one.cols) * kByteGroup;
    one.byte_steps += t * n_byte_groups(one.cols);
    one.byte_sums += t * n_byte_groups(one.cols);
    return one;
  }
};

const KernelSet& each_table() {
  std::vector<const KernelSet*> tables;
  for (const KernelSet* table : kernel_list()) {
    if (table->runs_here()) {
      tables.push_back(table);
    }
  }
  const size_t i = GENERATE_COPY(range(size_t{0}, tables.size()));
  UNSCOPED_INFO("kernels " << tables[i]->name);
  return *tables[i];
}

std::vector<float> product(const KernelSet& table, const MatrixView& w, const Inputs& x) {
  std::vector<float> y(x.n_tokens * w.rows, -1.0f);
  // In two ranges of whole units, as threads would.
  const uint64_t unit = codec_traits(w.codec).unit_rows;
  const uint64_t third = w.rows / 3 / unit * unit;
  table.matmul(w.codec)(w, x, y.data(), w.rows, 0, third);
  table.matmul(w.codec)(w, x, y.data(), w.rows, third, w.rows);
  return y;
}

// The sum over c of w[r][c] x[t][c].
double plain_product(const Encoded& w, const PreparedInputs& x, size_t r, size_t t) {
  const size_t cols = x.inputs.cols;
  double sum = 0.0;
  for (size_t c = 0; c < cols; ++c) {
    sum += static_cast<double>(w.decoded[r * cols + c]) * static_cast<double>(x.x[t * cols + c]);
  }
  return sum;
}

// How far a product may be off, for each input: half a step at most, on average much less.
double share_of(InputForm form) {
  switch (form) {
    case InputForm::Floats:
      return 1e-5;
    case InputForm::Integers:
      return 1e-4;
    case InputForm::BytePlanes:
    case InputForm::ByteGroups:
      return 1e-2;
  }
  return 0.0;
}

bool has_single_rows(const CodecTraits& codec) {
  return codec.unit_rows == 1;
}
const std::vector<uint64_t> kLengths = {1,  2,  3,  5,  7,  8,  15,  16,
                                        17, 31, 32, 33, 63, 65, 130, 5000};

}  // namespace

TEST_CASE("Both halves of a codec agree", "[kernels]") {
  const auto check = []<Codec C>() {
    CAPTURE(codec_traits(C).name);
    CHECK(RowFormat<C>::kGroup == codec_traits(C).group);
    CHECK(RowFormat<C>::kUnitRows == codec_traits(C).unit_rows);
    CHECK((RowFormat<C>::kInputs == input_form(C)));
    CHECK(uses_group_sums(C) ==
          (codec_traits(C).group != 0 && input_form(C) == InputForm::Integers));
    return true;
  };
  for (const CodecTraits& codec : codec_list()) {
    CHECK(for_codec<bool>(codec.codec, check));
  }
}

TEST_CASE("matmul is the product, for every kernel set, codec and length", "[kernels]") {
  const KernelSet& table = each_table();
  for (const CodecTraits& codec : codec_list()) {
    for (const size_t n_tokens : {1, 3, 4, 9}) {
      for (const uint64_t cols : kLengths) {
        const uint64_t rows = 2 * codec.unit_rows + 9;
        CAPTURE(codec.name, n_tokens, cols);
        const Encoded w = encode(codec.codec, rows, cols);
        const PreparedInputs x(table, codec.codec, n_tokens, cols, 7);
        const std::vector<float> y = product(table, w.view, x.inputs);
        const double limit = share_of(input_form(codec.codec)) * (1.0 + std::sqrt(cols));
        double worst = 0.0;
        for (size_t i = 0; i < y.size(); ++i) {
          const double expected = plain_product(w, x, i % rows, i / rows);
          worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - expected));
        }
        REQUIRE(worst < limit);
      }
    }
  }
}

TEST_CASE("Products of integers have the bits of the generic set", "[kernels]") {
  const KernelSet& table = each_table();
  const KernelSet& generic = *kernel_list().front();
  for (const uint64_t cols : kLengths) {
    CAPTURE(cols);
    for (const CodecTraits& codec : codec_list()) {
      if (input_form(codec.codec) == InputForm::Floats) {
        continue;
      }
      CAPTURE(codec.name);
      const PreparedInputs x(table, codec.codec, 5, cols, 13);
      const PreparedInputs plain(generic, codec.codec, 5, cols, 13);
      REQUIRE((x.q == plain.q));
      REQUIRE((x.steps == plain.steps));
      REQUIRE((x.sums == plain.sums));
      REQUIRE((x.bytes == plain.bytes));
      REQUIRE((x.byte_steps == plain.byte_steps));
      REQUIRE((x.byte_sums == plain.byte_sums));
      const Encoded w = encode(codec.codec, codec.unit_rows + 6, cols);
      REQUIRE((product(table, w.view, x.inputs) == product(generic, w.view, plain.inputs)));
      Inputs no_planes = x.inputs;
      no_planes.planes = nullptr;
      REQUIRE((product(table, w.view, no_planes) == product(generic, w.view, plain.inputs)));
    }
  }
}

// Every `step`th row of w, one by one wherever it lies; -1 for the others.
std::vector<float> gathered_product(const KernelSet& table, const MatrixView& w, uint32_t step,
                                    RowOrder order, const Inputs& inputs) {
  std::vector<const std::byte*> places;
  std::vector<uint32_t> ids;
  for (uint32_t r = 0; r < w.rows; r += step) {
    places.push_back(row_at(w, r));
    ids.push_back(r);
  }
  std::vector<float> y(inputs.n_tokens * w.rows, -1.0f);
  const RowsView view = {w.shared, places.data(), ids.data(), ids.size(), w.codec, w.cols, order};
  table.matmul_rows(w.codec)(view, inputs, y.data(), w.rows, 0, ids.size());
  return y;
}

TEST_CASE("The largest products of integers do not overflow", "[kernels]") {
  const KernelSet& table = each_table();
  // Where kernels change from rows side by side to a stream, and from one stream to another.
  const uint64_t cols = GENERATE(512, 513, 2048, 2049, 4096, 4097, 8192, 8193, 9000);
  const auto weight = static_cast<int8_t>(GENERATE(-128, 127));
  const float input = GENERATE(1.0f, -1.0f);
  CAPTURE(cols, weight, input);
  const uint64_t rows = 13;  // eight together, four together and one
  const CodecTraits& traits = codec_traits(Codec::I8Row);
  const uint64_t row_bytes = traits.unit_bytes(cols);
  std::vector<std::byte> bytes(traits.encoded_bytes(rows, cols), static_cast<std::byte>(weight));
  const float one = 1.0f;
  const float none = 0.0f;
  for (uint64_t r = 0; r < rows; ++r) {
    std::memcpy(bytes.data() + r * row_bytes, &one, sizeof(one));
    std::memcpy(bytes.data() + r * row_bytes + sizeof(one), &none, sizeof(none));
  }
  PreparedInputs x(table, Codec::I8Row, 1, cols, 1);
  const std::vector<float> inputs(cols, input);
  table.quantize_input(inputs.data(), cols, x.q.data(), x.steps.data(), x.sums.data());
  REQUIRE(std::abs(x.q[0]) == kMostInput);
  const MatrixView w = MatrixView::of(bytes.data(), Codec::I8Row, rows, cols);
  const std::vector<float> together = product(table, w, x.inputs);
  for (const float y : together) {
    CHECK(y == Approx(static_cast<double>(weight) * input * static_cast<double>(cols)));
  }
  for (const RowOrder order : {RowOrder::Scattered, RowOrder::Contiguous}) {
    CHECK((gathered_product(table, w, 1, order, x.inputs) == together));
  }
}

TEST_CASE("The largest sums over set bits do not overflow", "[kernels]") {
  const KernelSet& table = each_table();
  const uint64_t cols = 9000;
  const uint64_t rows = 9;  // eight together and one
  const CodecTraits& traits = codec_traits(Codec::SignRow);
  std::vector<std::byte> bytes(traits.encoded_bytes(rows, cols), std::byte{0xff});
  const std::array<uint16_t, 2> low_and_high = {0, 0x3c00};  // 0 and 1
  for (uint64_t r = 0; r < rows; ++r) {
    std::memcpy(bytes.data() + r * traits.unit_bytes(cols), low_and_high.data(),
                sizeof(low_and_high));
  }
  for (const float input : {1.0f, -1.0f}) {
    PreparedInputs x(table, Codec::SignRow, 1, cols, 1);
    const std::vector<float> inputs(cols, input);
    table.quantize_input(inputs.data(), cols, x.q.data(), x.steps.data(), x.sums.data());
    byte_planes(x.q.data(), cols, x.planes.data());
    const MatrixView w = MatrixView::of(bytes.data(), Codec::SignRow, rows, cols);
    for (const float y : product(table, w, x.inputs)) {
      CHECK(y == Approx(9000.0f * input));
    }
  }
}

TEST_CASE("One token and many give the same bits, and so do rows wherever they lie", "[kernels]") {
  const KernelSet& table = each_table();
  const uint64_t cols = GENERATE(77, 1001);
  const uint64_t rows = 43;  // scattered every second: eight together, four together and two
  for (const CodecTraits& codec : codec_list()) {
    CAPTURE(codec.name);
    const Encoded w = encode(codec.codec, rows, cols);
    const PreparedInputs x(table, codec.codec, 6, cols, 3);
    const std::vector<float> together = product(table, w.view, x.inputs);
    for (size_t t = 0; t < 6; ++t) {
      const auto from = together.begin() + static_cast<std::ptrdiff_t>(t * rows);
      const std::vector<float> alone = product(table, w.view, x.token(t));
      REQUIRE(std::equal(alone.begin(), alone.end(), from));
    }
    const std::vector<float> part = product(table, w.view.row_range(16, 3), x.inputs);
    REQUIRE(part[0] == together[16]);
    REQUIRE(part[2] == together[18]);
    if (!has_single_rows(codec)) {
      CHECK(table.matmul_rows(codec.codec) == nullptr);
      continue;
    }
    for (const RowOrder order : {RowOrder::Scattered, RowOrder::Contiguous}) {
      const std::vector<float> y = gathered_product(table, w.view, 2, order, x.inputs);
      for (size_t i = 0; i < y.size(); ++i) {
        REQUIRE(y[i] == (i % rows % 2 == 0 ? together[i] : -1.0f));
      }
    }
  }
}

// Rows of a matrix as their places, and the transposed product with them.
struct ScaledRows {
  const Encoded& w;
  std::vector<const std::byte*> places;
  std::vector<uint32_t> ids;

  void add(uint32_t row) {
    places.push_back(row_at(w.view, row));
    ids.push_back(row);
  }
  // Adds `part` rows at a time to y, in two ranges of columns.
  void add_to(std::vector<float>& y, const KernelSet& table, const std::vector<float>& a,
              size_t n_tokens, size_t part, uint64_t middle) const {
    const uint64_t cols = w.view.cols;
    const AddScaledRowsFn fn = table.add_scaled_rows(w.view.codec);
    const size_t n_groups = n_bias_groups(w.view.codec, cols);
    const size_t group = n_groups == 1 ? cols : codec_traits(w.view.codec).group;
    std::vector<double> bias(n_tokens * n_groups, 0.0);
    for (size_t i = 0; i < ids.size(); i += part) {
      const RowsView view = {w.view.shared,  places.data() + i,
                             ids.data() + i, std::min(part, ids.size() - i),
                             w.view.codec,   cols};
      fn(view, a.data(), w.view.rows, n_tokens, y.data(), bias.data(), 0, middle);
      fn(view, a.data(), w.view.rows, n_tokens, y.data(), bias.data(), middle, cols);
    }
    for (size_t i = 0; i < y.size(); ++i) {
      y[i] += static_cast<float>(bias[i / cols * n_groups + i % cols / group]);
    }
  }
};

TEST_CASE("add_scaled_rows is the transposed product, the same bits in any number of parts",
          "[kernels]") {
  const KernelSet& table = each_table();
  for (const CodecTraits& codec : codec_list()) {
    if (!has_single_rows(codec)) {
      CHECK(table.add_scaled_rows(codec.codec) == nullptr);
      continue;
    }
    for (const size_t n_tokens : {1, 2, 5}) {
      for (const uint64_t cols : kLengths) {
        CAPTURE(codec.name, n_tokens, cols);
        const uint64_t rows = 23;
        const Encoded w = encode(codec.codec, rows, cols);
        const std::vector<float> a = random_vector(n_tokens * rows, 11);
        ScaledRows added{w, {}, {}};
        for (uint32_t r = 0; r < rows; r += r % 5 == 0 ? 2 : 1) {
          added.add(r);
        }
        std::vector<float> y(n_tokens * cols, 0.5f);
        std::vector<float> in_parts = y;
        added.add_to(y, table, a, n_tokens, added.ids.size(), std::max<uint64_t>(1, cols / 2));
        added.add_to(in_parts, table, a, n_tokens, 3, cols);
        REQUIRE((y == in_parts));
        double worst = 0.0;
        for (size_t i = 0; i < y.size(); ++i) {
          double sum = 0.5;
          for (const uint32_t r : added.ids) {
            sum += static_cast<double>(a[i / cols * rows + r]) *
                   static_cast<double>(w.decoded[r * cols + i % cols]);
          }
          worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - sum));
        }
        REQUIRE(worst < 1e-4);
      }
    }
  }
}

TEST_CASE("add_scaled_rows of many rows and tokens is that of one token at a time", "[kernels]") {
  const KernelSet& table = each_table();
  const uint64_t rows = 400;
  const uint64_t cols = 61;
  for (const CodecTraits& codec : codec_list()) {
    if (!has_single_rows(codec)) {
      continue;
    }
    CAPTURE(codec.name);
    const Encoded w = encode(codec.codec, rows, cols);
    ScaledRows added{w, {}, {}};
    for (uint32_t r = 0; r < rows; ++r) {
      added.add(r);
    }
    for (const size_t n_tokens : {9, 37}) {
      // Most neurons are silent, some rows for all of a group of tokens.
      std::vector<float> a = random_vector(n_tokens * rows, 11);
      for (size_t i = 0; i < a.size(); ++i) {
        a[i] = i % 7 == 0 ? a[i] : 0.0f;
      }
      std::vector<float> together(n_tokens * cols);
      added.add_to(together, table, a, n_tokens, rows, cols);
      for (size_t t = 0; t < n_tokens; ++t) {
        const auto from = a.begin() + static_cast<std::ptrdiff_t>(t * rows);
        std::vector<float> alone(cols);
        added.add_to(alone, table, {from, from + rows}, 1, rows, cols);
        const auto of_token = together.begin() + static_cast<std::ptrdiff_t>(t * cols);
        REQUIRE(std::equal(alone.begin(), alone.end(), of_token));
      }
    }
  }
}

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
  const size_t n_tokens = GENERATE(1, 5);
  for (const CodecTraits& codec : codec_list()) {
    if (!codec.lut || !has_single_rows(codec)) {
      continue;
    }
    CAPTURE(codec.name, cols, n_tokens);
    const uint64_t rows = 31;
    const Encoded w = encode(codec.codec, rows, cols);
    const std::vector<float> a = random_vector(n_tokens * rows, 11);
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

TEST_CASE("Kernels are found by name", "[kernels]") {
  CHECK(find_kernels("generic").value() == kernel_list().front());
  const auto unknown = find_kernels("generik");
  CHECK(unknown.status().code() == Code::Usage);
  CHECK_THAT(unknown.status().message(), Catch::Contains("did you mean 'generic'"));
}
