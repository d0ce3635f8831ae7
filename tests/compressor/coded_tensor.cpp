// Matrices that are trained as what their codecs hold: where they start, what they round to, and
// how gradients pass.
#include "compressor/train/coded_tensor.h"

#include <torch/csrc/autograd/autograd.h>

#include <ATen/Parallel.h>

#include <set>

#include "compressor/numerics/tensor_ops.h"
#include "formats/codec/lut.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;
using press::CodedStart;
using press::CodedTensor;
using press::TrainCodes;

namespace {

constexpr int64_t kRows = 37;
constexpr int64_t kCols = 192;

at::Tensor made_up(uint64_t seed, double size) {
  at::Tensor values = at::empty({kRows, kCols}, at::kFloat);
  for (int64_t i = 0; i < values.numel(); ++i) {
    values.data_ptr<float>()[i] = static_cast<float>(size) * noise(seed, static_cast<uint64_t>(i));
  }
  values[3].zero_();
  return values;
}

at::Tensor decoded(Codec codec, const std::vector<std::byte>& codes) {
  at::Tensor values = at::empty({kRows, kCols}, at::kFloat);
  codec_traits(codec).decode_rows(MatrixView::of(codes.data(), codec, kRows, kCols), 0, kRows,
                                  {values.data_ptr<float>(), size_t{kRows * kCols}});
  return values;
}

// As a quantizer that learns leaves it: some codes are next to the nearest.
CodedStart start_in(Codec codec) {
  CodedStart start;
  start.name = "m";
  start.codec = codec;
  start.shape = {kRows, kCols};
  start.values = made_up(1, 0.3);
  start.codes.resize(codec_traits(codec).encoded_bytes(kRows, kCols));
  REQUIRE_OK(codec_traits(codec).encode({start.values.data_ptr<float>(), size_t{kRows * kCols}},
                                        start.shape, start.codes));
  if (codec_traits(codec).lut != nullptr) {
    LutMatrix matrix = lut_unpack(MatrixView::of(start.codes.data(), codec, kRows, kCols));
    for (size_t i = 0; i < matrix.codes.size(); i += 3) {
      matrix.codes[i] = static_cast<uint8_t>(matrix.codes[i] > 0 ? matrix.codes[i] - 1 : 1);
    }
    REQUIRE_OK(lut_pack(matrix, codec, start.codes));
  }
  return start;
}

at::Tensor rounded(CodedTensor& tensor) {
  at::Tensor values = at::empty({kRows, kCols}, at::kFloat);
  REQUIRE_OK(tensor.round(values));
  return values;
}

constexpr Codec kCodecs[] = {Codec::Lut2, Codec::Lut3Rows, Codec::Lut4, Codec::Lut5Rows,
                             Codec::U6,   Codec::I8Row,    Codec::F16};

const at::Tensor& parameter(const CodedTensor& tensor, const std::string& name) {
  for (const press::Parameter& each : tensor.parameters()) {
    if (each.name == name) {
      return each.values;
    }
  }
  FAIL("no parameter " << name);
  return tensor.parameters().front().values;
}

}  // namespace

TEST_CASE("Training of a matrix begins with its codes and stays what can be packed",
          "[coded_tensor]") {
  const Codec codec = GENERATE(from_range(std::begin(kCodecs), std::end(kCodecs)));
  const TrainCodes what = GENERATE(TrainCodes::None, TrainCodes::Scales, TrainCodes::All);
  INFO(codec_traits(codec).name << ", " << static_cast<int>(what));
  const CodedStart start = start_in(codec);
  const auto tensor = CodedTensor::make(start, what);
  CHECK(rounded(*tensor).equal(decoded(codec, start.codes)));
  CHECK((tensor->codes().value() == start.codes));

  // Large steps in all directions, beyond what scales and tables can be.
  std::set<std::string> names;
  for (const press::Parameter& each : tensor->parameters()) {
    names.insert(each.name);
    for (int64_t i = 0; i < each.values.numel(); ++i) {
      each.values.data_ptr<float>()[i] += 0.4f * noise(9, static_cast<uint64_t>(i));
    }
  }
  const at::Tensor values = rounded(*tensor);
  const auto codes = tensor->codes();
  REQUIRE_OK(codes.status());
  CHECK(values.equal(decoded(codec, codes.value())));
  CHECK(values.equal(decoded(codec, start.codes)) == names.empty());
  const bool is_lut = codec_traits(codec).lut != nullptr;
  CHECK((!is_lut || values[3].abs().max().item<float>() == 0.0f));  // a row without a scale
  const bool has_table = is_lut && codec_traits(codec).lut->bits < 6;
  CHECK(names.contains("m") == (what == TrainCodes::All));
  CHECK(names.contains("m/scales") == (is_lut && what != TrainCodes::None));
  CHECK(names.contains("m/row_scales") == (is_lut && what != TrainCodes::None));
  CHECK(names.contains("m/table") == (has_table && what != TrainCodes::None));
}

TEST_CASE("Weights start between their codes and what they were", "[coded_tensor]") {
  const CodedStart start = start_in(Codec::Lut3);
  const auto tensor = CodedTensor::make(start, TrainCodes::All);
  const at::Tensor& weights = parameter(*tensor, "m");
  const at::Tensor at_codes = decoded(Codec::Lut3, start.codes);
  const at::Tensor share =
      ((weights - at_codes) / (start.values - at_codes)).masked_select(start.values != at_codes);
  CHECK(share.min().item<float>() >= -1e-3f);
  CHECK(share.max().item<float>() <= 0.501f);
  CHECK(share.mean().item<float>() > 0.3f);
  // Without them, they start at their codes.
  CodedStart unknown = start;
  unknown.values = at::Tensor();
  const auto from_codes = CodedTensor::make(unknown, TrainCodes::All);
  CHECK(parameter(*from_codes, "m").equal(at_codes));
}

TEST_CASE("Settled codes stay while scales move, and a snapshot has them", "[coded_tensor]") {
  const Codec codec = GENERATE(Codec::Lut2, Codec::Lut3Rows, Codec::Lut5Rows, Codec::U6);
  INFO(codec_traits(codec).name);
  const CodedStart start = start_in(codec);
  const auto codes_of = [&](const CodedTensor& tensor) {
    const std::vector<std::byte> codes = tensor.codes().value();
    return lut_unpack(MatrixView::of(codes.data(), codec, kRows, kCols));
  };
  const auto move = [](const CodedTensor& tensor, const std::string& name, float by) {
    const at::Tensor values = parameter(tensor, name);
    for (int64_t i = 0; i < values.numel(); ++i) {
      values.data_ptr<float>()[i] += by * noise(9, static_cast<uint64_t>(i));
    }
  };
  const auto tensor = CodedTensor::make(start, TrainCodes::All);
  move(*tensor, "m", 0.2f);
  rounded(*tensor);
  const LutMatrix before = codes_of(*tensor);
  CHECK(before.codes != lut_unpack(MatrixView::of(start.codes.data(), codec, kRows, kCols)).codes);
  tensor->settle(CodedTensor::Codes::OfLastRound);
  move(*tensor, "m/scales", 0.3f);
  const at::Tensor values = rounded(*tensor);
  const LutMatrix after = codes_of(*tensor);
  CHECK(after.codes == before.codes);
  CHECK(after.scales != before.scales);
  tensor->take_gradient(at::ones({kRows, kCols}));
  CHECK_FALSE(parameter(*tensor, "m").grad().defined());
  CHECK(parameter(*tensor, "m/scales").grad().defined());

  const auto other = CodedTensor::make(start, TrainCodes::All);
  for (const press::Parameter& each : other->parameters()) {
    each.values.copy_(parameter(*tensor, each.name));
  }
  other->settle(CodedTensor::Codes::InParameters);
  CHECK(rounded(*other).equal(values));
}

TEST_CASE("A weight that comes back to its first code stays there", "[coded_tensor]") {
  const CodedStart start = start_in(Codec::Lut4);
  const auto tensor = CodedTensor::make(start, TrainCodes::All);
  const at::Tensor first = rounded(*tensor);
  const at::Tensor& weights = parameter(*tensor, "m");
  const at::Tensor begun = weights.clone();
  const auto move = [&] {
    for (int64_t i = 0; i < weights.numel(); ++i) {
      weights.data_ptr<float>()[i] += 0.2f * noise(9, static_cast<uint64_t>(i));
    }
  };
  move();
  const at::Tensor flipped = rounded(*tensor) != first;
  CHECK(flipped.any().item<bool>());
  weights.copy_(begun);
  CHECK(rounded(*tensor).equal(first));
  // The same way again: no weight flips a second time.
  move();
  CHECK(rounded(*tensor).equal(first));
  tensor->take_gradient(at::ones({kRows, kCols}));
  const at::Tensor gradient = parameter(*tensor, "m").grad();
  CHECK(gradient.masked_select(flipped).abs().max().item<float>() == 0.0f);
  CHECK(gradient.masked_select(flipped.logical_not()).mean().item<float>() > 0.5f);
  // A snapshot has it.
  const auto other = CodedTensor::make(start, TrainCodes::All);
  for (const press::Parameter& each : other->parameters()) {
    each.values.copy_(parameter(*tensor, each.name));
  }
  CHECK(rounded(*other).equal(first));
}

TEST_CASE("Gradients of scales and tables are those of the product of them", "[coded_tensor]") {
  const Codec codec = GENERATE(Codec::Lut2, Codec::Lut4, Codec::Lut3Rows);
  INFO(codec_traits(codec).name);
  const CodedStart start = start_in(codec);
  const auto tensor = CodedTensor::make(start, TrainCodes::Scales);
  rounded(*tensor);
  const at::Tensor gradient = made_up(5, 1.0);
  tensor->take_gradient(gradient);

  const LutMatrix matrix = lut_unpack(MatrixView::of(start.codes.data(), codec, kRows, kCols));
  const int64_t group = codec_traits(codec).lut->group;
  const auto leaf = [](const at::Tensor& values) {
    return values.to(at::kDouble).set_requires_grad(true);
  };
  const at::Tensor scales = leaf(parameter(*tensor, "m/scales"));
  const at::Tensor rows = leaf(parameter(*tensor, "m/row_scales"));
  const at::Tensor table = leaf(parameter(*tensor, "m/table"));
  const at::Tensor first = at::tensor(matrix.row_scales).to(at::kDouble).unsqueeze(1);
  const at::Tensor codes =
      at::tensor(std::vector<int64_t>(matrix.codes.begin(), matrix.codes.end()));
  const at::Tensor spread =
      scales.reshape({kRows, -1}).repeat_interleave(group, 1).narrow(1, 0, kCols) * 127;
  const at::Tensor values =
      first * rows.unsqueeze(1) * spread * (table.index_select(0, codes) * 64).reshape({kRows, -1});
  CHECK(at::allclose(values, decoded(codec, start.codes).to(at::kDouble), 1e-5, 1e-7));
  torch::autograd::backward({values}, {gradient.to(at::kDouble)});
  for (const auto& [name, expected] :
       {std::pair("m/scales", scales), std::pair("m/row_scales", rows),
        std::pair("m/table", table)}) {
    INFO(name);
    CHECK(
        at::allclose(parameter(*tensor, name).grad().to(at::kDouble), expected.grad(), 1e-4, 1e-5));
  }
}

TEST_CASE("Weights within the table get the gradient of their values", "[coded_tensor]") {
  const Codec codec = Codec::Lut4;
  const auto tensor = CodedTensor::make(start_in(codec), TrainCodes::All);
  at::Tensor weights = parameter(*tensor, "m");
  weights[0][0] = 1e3f;  // far beyond the table
  rounded(*tensor);
  const at::Tensor gradient = made_up(6, 1.0);
  tensor->take_gradient(gradient);
  const at::Tensor& own = weights.grad();
  CHECK(own[0][0].item<float>() == 0.0f);
  const at::Tensor is_passed = own == gradient;
  CHECK(is_passed.to(at::kFloat).mean().item<float>() > 0.9f);
  CHECK((is_passed | (own == 0)).all().item<bool>());
}

TEST_CASE("Rounding and gradients are the same with any number of threads", "[coded_tensor]") {
  const int before = at::get_num_threads();
  std::vector<at::Tensor> results[2];
  for (const int n_threads : {1, 4}) {
    at::set_num_threads(n_threads);
    const auto tensor = CodedTensor::make(start_in(Codec::Lut3), TrainCodes::All);
    std::vector<at::Tensor>& found = results[n_threads == 1 ? 0 : 1];
    found.push_back(rounded(*tensor));
    tensor->take_gradient(made_up(5, 1.0));
    for (const press::Parameter& each : tensor->parameters()) {
      found.push_back(each.values.grad());
    }
  }
  at::set_num_threads(before);
  REQUIRE(results[0].size() == results[1].size());
  for (size_t i = 0; i < results[0].size(); ++i) {
    CHECK(results[0][i].equal(results[1][i]));
  }
}
