// What goes in comes out: packing in f32 and unpacking gives the same tensors, packing twice gives
// the same bytes, and an unfolded embedding means the same to the model.
#include <ATen/Parallel.h>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

std::string synth(const ScratchFolder& scratch, const std::string& arch, const std::string& dtype,
                  const std::string& ending) {
  press::SynthOptions options;
  options.model.arch = arch;
  options.dtype = dtype;
  options.model.n_layer = 2;
  options.model.n_embd = 64;
  options.model.n_vocab = 70;
  options.output = scratch.file("in" + ending);
  REQUIRE_OK(press::write_synthetic(options).status());
  return options.output;
}

void check_same_tensors(const TensorSource& a, const TensorSource& b) {
  REQUIRE(a.tensors().size() == b.tensors().size());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    const TensorInfo& info = a.tensors()[i];
    CHECK(info.name == b.tensors()[i].name);
    CHECK(info.dtype == b.tensors()[i].dtype);
    CHECK(info.shape == b.tensors()[i].shape);
    std::vector<std::byte> bytes_a;
    std::vector<std::byte> bytes_b;
    REQUIRE_OK(a.read(i, bytes_a));
    REQUIRE_OK(b.read(i, bytes_b));
    INFO(info.name);
    CHECK(bytes_a == bytes_b);
  }
}

}  // namespace

TEST_CASE("Packed in f32, every tensor comes back bit for bit", "[round_trip]") {
  const std::string arch = GENERATE("v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058", "x059");
  const std::string dtype = GENERATE("bf16", "f16", "f32");
  const ScratchFolder scratch;
  const std::string input = synth(scratch, arch, dtype, ".pth");
  REQUIRE_OK(convert(input, scratch.file("m.gguf"), {"fp32", "", {}}));
  auto before = press::open_checkpoint(input);
  auto after = press::open_checkpoint(scratch.file("m.gguf"));
  REQUIRE_OK(before.status());
  REQUIRE_OK(after.status());
  CHECK(after.value().is_packed);
  check_same_tensors(*before.value().source, *after.value().source);
}

TEST_CASE("Real checkpoints come back bit for bit too", "[round_trip]") {
  const std::string name = GENERATE("v4-A-bf16", "v6-A-bf16", "v7-A-bf16", "x058-A-bf16");
  const auto input = test_data("golden/" + name + ".pth", "round trip of " + name);
  if (!input) {
    return;
  }
  const ScratchFolder scratch;
  REQUIRE_OK(convert(*input, scratch.file("m.gguf"), {"fp32", "", {}}));
  auto before = press::open_checkpoint(*input);
  auto after = press::open_checkpoint(scratch.file("m.gguf"));
  REQUIRE_OK(before.status());
  REQUIRE_OK(after.status());
  check_same_tensors(*before.value().source, *after.value().source);
}

TEST_CASE("Two conversions give the same bytes", "[round_trip]") {
  const std::string preset = GENERATE("fp32", "fp16", "int8", "mm8");
  const ScratchFolder scratch;
  const std::string input = synth(scratch, "v7", "bf16", ".safetensors");
  REQUIRE_OK(convert(input, scratch.file("a.gguf"), {preset, "bytes", {}}));
  at::set_num_threads(2);
  REQUIRE_OK(convert(input, scratch.file("b.gguf"), {preset, "bytes", {}}));
  at::set_num_threads(1);
  CHECK(read_bytes(scratch.file("a.gguf")) == read_bytes(scratch.file("b.gguf")));
}

TEST_CASE("An int8 file unpacked and packed in f32 is the same model", "[round_trip]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch, "v5.2", "f32", ".pth");
  const auto model = convert_and_open(input, scratch.file("a.gguf"), {"int8", "", {}});
  REQUIRE(model->config().ln0_folded);
  const auto again =
      convert_and_open(scratch.file("a.gguf"), scratch.file("b.gguf"), {"fp32", "", {}});
  CHECK_FALSE(again->config().ln0_folded);
  const std::vector<int32_t> tokens = {1, 2, 3, 60, 69, 0};
  // ln0 normalises what it already had normalised: rounding moves the variance a little.
  CHECK(max_difference(all_logits(model, tokens, 1), all_logits(again, tokens, 1)) < 0.05);
}
