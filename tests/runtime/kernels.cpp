// Every kernel set that runs here against plain sums in double and against the generic set, with
// every codec of the list, over awkward lengths, unaligned weights, ranges of rows and columns, one
// token and many.
#include "runtime/kernels/kernels.h"

#include <array>
#include <cmath>
#include <cstdlib>

#include "runtime/kernels/for_codec.h"
#include "tests/runtime/kernel_testing.h"

using namespace rwkv;
using namespace rwkv::edge;
using namespace rwkv::test;

namespace {

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

TEST_CASE("Kernels are found by name", "[kernels]") {
  CHECK(find_kernels("generic").value() == kernel_list().front());
  const auto unknown = find_kernels("generik");
  CHECK(unknown.status().code() == Code::Usage);
  CHECK_THAT(unknown.status().message(), Catch::Contains("did you mean 'generic'"));
}
