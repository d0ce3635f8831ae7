// Quantizers that learn from text run over the model block by block. What they put as codes is what
// is packed; a quantizer that rounds to nearest gives, on this way too, the bytes that the packer
// gives.
#include "compressor/stages/quantize_model.h"

#include <map>

#include "compressor/checkpoint/open.h"
#include "compressor/low_rank/factorise.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/pipeline/pipeline.h"
#include "compressor/quantizers/nearest.h"
#include "formats/container/packed_tensors.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

// Rounds to nearest, but asks for moments and keeps what it was given.
class Listening final : public press::Quantizer {
 public:
  bool learns() const override { return true; }
  Result<press::Quantized> quantize(const press::QuantizerInput& input) const override {
    seen.push_back(input);
    return press::make_nearest_quantizer()->quantize(input);
  }
  mutable std::vector<press::QuantizerInput> seen;
};

constexpr const char* kRecipe =
    "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
    "  - low_rank: {factor: 4, matrices: [att.key]}\n"
    "  - quantize: {codec: i8_row, lora_codec: i8_row, min_numbers: 0}\n";

struct Packed {
  press::PackPlan plan;
  std::map<std::string, std::vector<std::byte>> bytes;  ///< of each tensor
};

// Converts with the stages of kRecipe; the quantizer runs as well, if there is one.
Packed pack_with(const std::string& input, const std::string& output, const std::string& text,
                 const press::Quantizer* quantizer) {
  const auto recipe = press::parse_recipe(kRecipe, "test", {}).take();
  const auto checkpoint = press::open_checkpoint(input).take();
  const auto model = press::identify_checkpoint(*checkpoint.source).take();
  press::PipelineOptions options;
  options.scratch_folder = std::filesystem::path(output).parent_path().string();
  press::CalibrationOptions calibration = recipe.calibration;
  calibration.texts = {text};
  options.calibration = press::sample_texts(calibration, Vocabulary{}, model.config).take();
  auto begun = press::begin_work(*checkpoint.source, model, recipe.seed, options);
  REQUIRE_OK(begun.status());
  press::Work work = begun.take();
  for (const auto& stage : recipe.stages) {
    REQUIRE_OK(press::run_stage(*stage, work));
  }
  if (quantizer != nullptr) {
    REQUIRE_OK(press::quantize_model(work, *quantizer));
  }
  REQUIRE_OK(press::end_work(work));
  press::PackOptions pack;
  pack.output = output;
  pack.model_name = "test";
  pack.tool_version = "test";
  REQUIRE_OK(press::pack(*work.source, work.plan, recipe, pack));
  const std::vector<std::byte> file = read_bytes(output);
  const auto tensors = packed_tensors(GgufFile::parse(file, output).take());
  REQUIRE_OK(tensors.status());
  Packed packed{work.plan, {}};
  for (const PackedTensor& tensor : tensors.value()) {
    const auto bytes = std::span(file).subspan(tensor.offset, tensor.n_bytes);
    packed.bytes[tensor.name] = {bytes.begin(), bytes.end()};
  }
  return packed;
}

}  // namespace

TEST_CASE("Rounding to nearest on the way of quantizers that learn gives the packer's bytes",
          "[quantize_model]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  INFO(arch);
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, arch, 64);
  const std::string text = write_text(scratch, 4000);
  const Packed plain = pack_with(input, scratch.file("plain.gguf"), text, nullptr);
  const Listening listening;
  const Packed learnt = pack_with(input, scratch.file("learnt.gguf"), text, &listening);
  REQUIRE(plain.bytes.size() == learnt.bytes.size());
  for (const auto& [name, bytes] : plain.bytes) {
    INFO(name);
    CHECK((learnt.bytes.at(name) == bytes));
  }

  // Every matrix was asked for once, in the order of the blocks.
  size_t n_lossy = 0;
  for (const press::PlannedTensor& tensor : learnt.plan.tensors) {
    n_lossy += codec_traits(tensor.codec).is_lossy ? 1 : 0;
  }
  CHECK(listening.seen.size() == n_lossy);
  size_t n_moments = 0;
  for (const press::QuantizerInput& each : listening.seen) {
    if (each.moments.defined()) {
      ++n_moments;
      const int64_t n_inputs = each.weights.size(each.inputs_are_rows ? 0 : 1);
      REQUIRE((each.moments.sizes() == at::IntArrayRef({n_inputs, n_inputs})));
    }
  }
  // All products of two blocks, and the head; embedding and lora matrices have none.
  const size_t n_products = arch == "v4" ? 7 : arch == "v7" ? 6 : 8;
  CHECK(n_moments == 2 * (n_products + 1) + 1);
}

TEST_CASE("Quantizers see the activations that quantized blocks give", "[quantize_model]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2", 64);
  const std::string text = write_text(scratch, 4000);
  const Listening first;
  const Listening second;
  pack_with(input, scratch.file("a.gguf"), text, &first);
  pack_with(input, scratch.file("b.gguf"), text, &second);
  REQUIRE(first.seen.size() == second.seen.size());
  for (size_t i = 0; i < first.seen.size(); ++i) {
    REQUIRE(first.seen[i].moments.defined() == second.seen[i].moments.defined());
    if (first.seen[i].moments.defined()) {
      CHECK(first.seen[i].moments.equal(second.seen[i].moments));
      // Of inputs: no energy below nothing, and a square matrix that equals its transpose.
      CHECK(first.seen[i].moments.diagonal().min().item<float>() >= 0.0f);
      CHECK(first.seen[i].moments.allclose(first.seen[i].moments.t(), 1e-3, 1e-3));
    }
  }
}

TEST_CASE("The error of codes is a share of the outputs' energy", "[quantize_model]") {
  press::QuantizerInput input;
  input.weights = at::tensor({1.0f, 0.5f, -1.0f, 0.25f, 0.0f, 1.0f}).reshape({2, 3});
  input.codec = Codec::I8Row;
  const auto plain = press::make_nearest_quantizer()->quantize(input);
  REQUIRE_OK(plain.status());
  CHECK(plain.value().error > 0);
  CHECK(plain.value().error < 1e-4);
  // Inputs that are always zero cost nothing, whatever becomes of their columns.
  input.moments = at::zeros({3, 3});
  input.moments[0][0] = 1.0f;
  const auto weighted = press::make_nearest_quantizer()->quantize(input);
  REQUIRE_OK(weighted.status());
  CHECK((weighted.value().codes == plain.value().codes));
  std::vector<float> decoded(6);
  const auto w = MatrixView::of(plain.value().codes.data(), Codec::I8Row, 2, 3);
  codec_traits(Codec::I8Row).decode_rows(w, 0, 2, decoded);
  const double a = 1.0 - static_cast<double>(decoded[0]);
  const double b = 0.25 - static_cast<double>(decoded[3]);
  CHECK(weighted.value().error == Approx((a * a + b * b) / (1.0 + 0.0625)).margin(1e-9));
}
