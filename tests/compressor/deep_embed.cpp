// Tuned states and v7a from a checkpoint to logits, against the formulas in double.
#include <cmath>

#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/merged_source.h"
#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/write.h"
#include "compressor/model/network.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"
#include "tests/support/reference.h"

namespace rwkv::test {
namespace {

const std::vector<int32_t> kTokens = {34, 105, 110, 7, 200, 31, 99, 99, 1, 255};

// The largest difference of logits, in parts of the largest logit.
double difference(const std::vector<float>& found, Reference& reference) {
  double worst = 0.0;
  double largest = 1.0;
  size_t at = 0;
  for (const int32_t token : kTokens) {
    for (const double expected : reference.step(token)) {
      worst = std::max(worst, std::abs(expected - static_cast<double>(found[at++])));
      largest = std::max(largest, std::abs(expected));
    }
  }
  REQUIRE(at == found.size());
  return worst / largest;
}

// A synthetic checkpoint with a state of noise in every block, or of zeros.
std::string with_state(const ScratchFolder& folder, const std::string& plain, float size) {
  auto opened = press::open_checkpoint(plain);
  REQUIRE_OK(opened.status());
  auto state = std::make_unique<press::MemorySource>("state.pth");
  for (uint64_t block = 0; block < 2; ++block) {
    std::vector<float> values(size_t{2} * 64 * 64);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = size * noise(block, i);
    }
    state->add(fmt::format("blocks.{}.att.time_state", block), {2, 64, 64}, std::move(values));
  }
  std::vector<press::OpenedAdapter> adapters;
  adapters.push_back({std::move(state), std::nullopt});
  auto merged = press::merge_adapters(std::move(opened.value().source), std::move(adapters), {});
  REQUIRE_OK(merged.status());
  const TensorSource& source = *merged.value().source;
  const std::string path = folder.file(size == 0.0f ? "zero.pth" : "tuned.pth");
  REQUIRE_OK(press::write_checkpoint(
      path, OutputFile::Existing::Replace, source.tensors(),
      [&](size_t i, std::vector<std::byte>& out) { return source.read(i, out); }));
  return path;
}

}  // namespace

TEST_CASE("Tuned states lie as the formulas say: [head][value][key]", "[deep_embed]") {
  for (const char* arch : {"v5.2", "v6", "v7", "v7a"}) {
    INFO(arch);
    const ScratchFolder folder;
    const std::string plain = write_synth(folder, arch);
    const std::string tuned = with_state(folder, plain, 0.5f);
    for (const std::string& path : {plain, tuned}) {
      const auto model = convert_and_open(path, folder.file("m.gguf"), {});
      const auto opened = press::open_checkpoint(path);
      REQUIRE_OK(opened.status());
      Reference reference(*opened.value().source);
      const std::vector<float> logits = all_logits(model, kTokens, 1);
      const double error = difference(logits, reference);
      fmt::print("{:<5} {} state: {:.1e}\n", arch, path == plain ? "without" : "with", error);
      CHECK(error < 1e-5);
      CHECK(all_logits(model, kTokens, 4, 2) == logits);
    }
    // The other way round would be seen.
    const auto opened = press::open_checkpoint(tuned);
    Reference turned(*opened.value().source);
    for (const char* name : {"blocks.0.att.time_state", "blocks.1.att.time_state"}) {
      Numbers& state = turned.tensor(name);
      const Numbers before = state;
      for (size_t i = 0; i < state.size(); ++i) {
        state[i] = before[(i / 4096 * 64 + i % 64) * 64 + i / 64 % 64];
      }
    }
    const auto model = convert_and_open(tuned, folder.file("m.gguf"), {});
    CHECK(difference(all_logits(model, kTokens, 1), turned) > 1e-3);
    // Zeros are the plain model, bit for bit.
    const auto zero = convert_and_open(with_state(folder, plain, 0.0f), folder.file("z.gguf"), {});
    const auto without = convert_and_open(plain, folder.file("p.gguf"), {});
    CHECK(all_logits(zero, kTokens, 1) == all_logits(without, kTokens, 1));
  }
}

TEST_CASE("LibTorch's forward pass begins with a tuned state, as the runtime does",
          "[deep_embed]") {
  for (const char* arch : {"v5.2", "v6", "v7"}) {
    INFO(arch);
    const ScratchFolder folder;
    const std::string tuned = with_state(folder, write_synth(folder, arch), 0.5f);
    const auto opened = press::open_checkpoint(tuned);
    REQUIRE_OK(opened.status());
    const TensorSource& source = *opened.value().source;
    const auto identified = press::identify_checkpoint(source);
    REQUIRE_OK(identified.status());
    const auto network = press::Network::load(source, identified.value().config, nullptr);
    REQUIRE_OK(network.status());
    // Two sequences, so that each begins with it.
    const std::vector<int64_t> ids(kTokens.begin(), kTokens.end());
    const at::Tensor row = at::tensor(ids).unsqueeze(0);
    const at::Tensor logits = network.value()->logits(at::cat({row, row}, 0)).contiguous();
    const int64_t half = logits.numel() / 2;
    const float* const values = logits.data_ptr<float>();
    for (const float* from : {values, values + half}) {
      Reference reference(source);
      const double error = difference({from, from + half}, reference);
      fmt::print("{:<5} LibTorch from a state: {:.1e}\n", arch, error);
      CHECK(error < 1e-5);
    }
  }
}

TEST_CASE("v7a packs with every preset that only quantises, and comes back out", "[deep_embed]") {
  const ScratchFolder folder;
  const std::string path = write_synth(folder, "v7a");
  const auto opened = press::open_checkpoint(path);
  REQUIRE_OK(opened.status());
  Reference reference(*opened.value().source);
  struct Case {
    const char* preset;
    double error;
  };
  for (const Case& test :
       {Case{"fp32", 1e-5}, Case{"fp16", 2e-3}, Case{"int8", 5e-2}, Case{"mm8", 1e-1}}) {
    INFO(test.preset);
    const std::string packed = folder.file(std::string(test.preset) + ".gguf");
    const auto model = convert_and_open(path, packed, {test.preset, "", {}});
    CHECK(version_label(model->config()) == "v7a");
    Reference fresh(*opened.value().source);
    const double error = difference(all_logits(model, kTokens, 1), fresh);
    fmt::print("v7a {:<5} {:.1e}\n", test.preset, error);
    CHECK(error < test.error);
    const auto back = press::open_checkpoint(packed);
    REQUIRE_OK(back.status());
    REQUIRE_OK(press::identify_checkpoint(*back.value().source).status());
    CHECK(back.value().source->tensors().size() == opened.value().source->tensors().size());
  }
  const Status learns = convert(path, folder.file("l.gguf"),
                                {"rwkv-lite-int8", "bytes", {}, "", {write_text(folder, 4000)}});
  CHECK(learns.code() == Code::Usage);
  CHECK_THAT(learns.message(), Catch::Contains("v7a"));
}

}  // namespace rwkv::test
