// Adapters as Hugging Face's PEFT writes them, for models under Hugging Face's and
// flash-linear-attention's names: against the same merge in double, in the other program's layout.
#include <cmath>
#include <filesystem>
#include <map>

#include "compressor/checkpoint/adapter.h"
#include "compressor/checkpoint/adapter_config.h"
#include "compressor/checkpoint/merged_source.h"
#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/write.h"
#include "tests/compressor/foreign_files.h"
#include "tests/support/catch.h"
#include "tests/support/way_out.h"

namespace rwkv::press {
namespace {

using Catch::Contains;
using test::RawTensor;
using test::RawTensors;

constexpr uint64_t kRank = 4;
constexpr double kAlpha = 12.0;

std::vector<float> values_of(const RawTensor& tensor) {
  std::vector<float> values(tensor.info.n_elements());
  decode_to_f32(tensor.info.dtype, tensor.bytes, values);
  return values;
}

RawTensor noisy(const std::string& name, std::vector<uint64_t> shape, uint64_t seed) {
  RawTensor tensor{{name, DType::F32, std::move(shape)}, {}};
  std::vector<float> values(tensor.info.n_elements());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.1f * test::noise(seed, i);
  }
  encode_from_f32(DType::F32, values, tensor.bytes);
  return tensor;
}

// W + scale B A, in double, rounded once.
void add_product(RawTensor& w, const RawTensor& a, const RawTensor& b, double scale) {
  const uint64_t n_in = w.info.shape[1];
  const std::vector<float> of_a = values_of(a);
  const std::vector<float> of_b = values_of(b);
  std::vector<float> values = values_of(w);
  for (uint64_t o = 0; o < w.info.shape[0]; ++o) {
    for (uint64_t i = 0; i < n_in; ++i) {
      double sum = 0.0;
      for (uint64_t k = 0; k < kRank; ++k) {
        sum += static_cast<double>(of_b[o * kRank + k]) * static_cast<double>(of_a[k * n_in + i]);
      }
      const double before = values[o * n_in + i];
      values[o * n_in + i] = static_cast<float>(before + scale * sum);
    }
  }
  encode_from_f32(DType::F32, values, w.bytes);
}

std::string config_text(const std::string& more = "", const std::string& r = "4",
                        const std::string& targets = "") {
  // No key may occur twice, so what a case says stands in place of the usual.
  const char* usual = ", \"use_dora\": false, \"rank_pattern\": {}, \"init_lora_weights\": true";
  return "{\"peft_type\": \"LORA\", \"r\": " + r + ", \"lora_alpha\": 12, \"bias\": \"none\"" +
         (targets.empty() ? "" : ", \"target_modules\": " + targets) +
         (more.empty() ? usual : more) + "}";
}

// The folder of an adapter for `modules` of `theirs`, which it changes as the adapter does.
std::string write_adapter(const test::ScratchFolder& scratch, RawTensors& theirs,
                          const std::vector<std::string>& modules, double scale,
                          const std::string& file = "adapter_model.safetensors") {
  const std::string folder = scratch.file("adapter");
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  RawTensors factors;
  for (const std::string& module : modules) {
    for (RawTensor& w : theirs) {
      if (w.info.name != module + ".weight") {
        continue;
      }
      const std::string name = "base_model.model." + module;
      const uint64_t seed = factors.size() + 1;
      factors.push_back(noisy(name + ".lora_A.weight", {kRank, w.info.shape[1]}, seed));
      factors.push_back(noisy(name + ".lora_B.weight", {w.info.shape[0], kRank}, seed + 1));
      add_product(w, factors[factors.size() - 2], factors.back(), scale);
    }
  }
  REQUIRE(factors.size() == 2 * modules.size());
  test::write_raw(folder + "/" + file, factors);
  test::write_text(folder + "/adapter_config.json", config_text());
  return folder;
}

Result<Merged> merged(const std::string& base, const std::string& adapter,
                      const MergeOptions& options = {}) {
  auto opened = open_checkpoint(base);
  REQUIRE_OK(opened.status());
  RWKV_ASSIGN(OpenedAdapter one, open_adapter(adapter));
  std::vector<OpenedAdapter> adapters;
  adapters.push_back(std::move(one));
  return merge_adapters(std::move(opened.value().source), std::move(adapters), options);
}

void check_same(const RawTensors& found, const RawTensors& expected) {
  std::map<std::string, const RawTensor*> by_name;
  for (const RawTensor& tensor : expected) {
    by_name.emplace(tensor.info.name, &tensor);
  }
  REQUIRE(found.size() == expected.size());
  for (const RawTensor& tensor : found) {
    INFO(tensor.info.name);
    REQUIRE(by_name.count(tensor.info.name) == 1);
    const std::vector<float> a = values_of(tensor);
    const std::vector<float> b = values_of(*by_name[tensor.info.name]);
    REQUIRE(a.size() == b.size());
    double worst = 0.0;
    for (size_t i = 0; i < a.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) /
                                  (1.0 + std::abs(static_cast<double>(b[i]))));
    }
    CHECK(worst < 1e-7);
  }
}

struct Layout {
  const char* name;
  const char* arch;
  std::function<RawTensors(const RawTensors&)> to;
  std::vector<std::string> modules;
};
const std::vector<Layout>& layouts() {
  static const std::vector<Layout> kLayouts = {
      {"fla v7",
       "v7",
       [](const RawTensors& plain) { return test::to_fla7(plain, test::Mixing::Separate); },
       {"model.layers.0.attn.r_proj", "model.layers.1.attn.o_proj", "model.layers.1.ffn.key",
        "model.layers.0.ffn.value", "model.layers.1.attn.w_lora.lora.0",
        "model.layers.1.attn.w_lora.lora.2", "lm_head"}},
      {"fla v6",
       "v6",
       test::to_fla6,
       {"model.layers.0.attn.r_proj.linear", "model.layers.1.attn.g_proj.linear",
        "model.layers.1.ffn.receptance.linear", "model.layers.0.ffn.value"}},
      {"Hugging Face v6",
       "v6",
       test::to_hugging_face,
       {"rwkv.blocks.0.attention.key", "rwkv.blocks.1.attention.gate",
        "rwkv.blocks.1.feed_forward.value", "head"}},
      {"Hugging Face v5",
       "v5.2",
       test::to_hugging_face,
       {"rwkv.blocks.0.attention.output", "rwkv.blocks.1.feed_forward.receptance"}},
      {"Hugging Face v4",
       "v4",
       test::to_hugging_face,
       {"rwkv.blocks.0.attention.value", "rwkv.blocks.1.feed_forward.key"}},
      {"Hugging Face v7",
       "v7",
       test::to_hugging_face7,
       {"model.blocks.0.att.receptance", "model.blocks.1.ffn.key"}},
  };
  return kLayouts;
}

}  // namespace

TEST_CASE("LoRA of PEFT for models of other programs: as merged in their layout", "[adapters]") {
  const test::ScratchFolder scratch;
  for (const Layout& layout : layouts()) {
    INFO(layout.name);
    const RawTensors plain = test::plain_model(layout.arch, "f32");
    RawTensors theirs = layout.to(plain);
    test::write_raw(scratch.file("plain.safetensors"), plain);
    test::write_raw(scratch.file("theirs.safetensors"), theirs);
    const std::string folder = write_adapter(scratch, theirs, layout.modules, kAlpha / kRank);
    test::write_raw(scratch.file("expected.safetensors"), theirs);
    const auto expected = open_checkpoint(scratch.file("expected.safetensors"));
    REQUIRE_OK(expected.status());
    // The base under either names, the adapter as a folder or as its file.
    for (const char* base : {"plain.safetensors", "theirs.safetensors"}) {
      for (const std::string& adapter : {folder, folder + "/adapter_model.safetensors"}) {
        const auto result = merged(scratch.file(base), adapter);
        REQUIRE_OK(result.status());
        check_same(test::raw_tensors(*result.value().source),
                   test::raw_tensors(*expected.value().source));
        CHECK_THAT(result.value().notes.back(),
                   Contains("alpha 12 / rank, as ") && Contains("adapter_config.json says"));
      }
    }
  }
}

TEST_CASE("A LoRA's scale is that of its configuration, unless --alpha says another",
          "[adapters]") {
  const test::ScratchFolder scratch;
  const RawTensors plain = test::plain_model("v7", "f32");
  test::write_raw(scratch.file("plain.pth"), plain);
  const auto check = [&](const std::string& more, const MergeOptions& options, double scale) {
    RawTensors theirs = plain;
    const std::string folder =
        write_adapter(scratch, theirs, {"blocks.1.att.key"}, scale, "adapter_model.bin");
    test::write_text(folder + "/adapter_config.json", config_text(more));
    const auto result = merged(scratch.file("plain.pth"), folder, options);
    REQUIRE_OK(result.status());
    check_same(test::raw_tensors(*result.value().source), theirs);
  };
  check("", {}, kAlpha / kRank);
  check(", \"use_rslora\": true", {}, kAlpha / 2.0);
  check(", \"rank_pattern\": {\"att.key\": 4}", {}, kAlpha / kRank);
  check("", {.alpha = 2.0}, 2.0 / kRank);
}

TEST_CASE("Modules that PEFT trained whole replace those of the model", "[adapters]") {
  const test::ScratchFolder scratch;
  const RawTensors plain = test::plain_model("v7", "f32");
  test::write_raw(scratch.file("plain.pth"), plain);
  for (const char* name :
       {"base_model.model.lm_head.weight", "base_model.model.lm_head.modules_to_save.weight",
        "base_model.model.lm_head.modules_to_save.default.weight"}) {
    const std::string folder = scratch.file("whole");
    std::filesystem::create_directories(folder);
    RawTensors expected = plain;
    for (RawTensor& tensor : expected) {
      if (tensor.info.name == "head.weight") {
        tensor = noisy("head.weight", tensor.info.shape, 5);
        test::write_raw(folder + "/adapter_model.safetensors", {noisy(name, tensor.info.shape, 5)});
      }
    }
    test::write_text(folder + "/adapter_config.json", config_text());
    const auto result = merged(scratch.file("plain.pth"), folder);
    REQUIRE_OK(result.status());
    check_same(test::raw_tensors(*result.value().source), expected);
  }
}

TEST_CASE("Adapters of other kinds, and files that do not belong together, are named",
          "[adapters]") {
  const test::ScratchFolder scratch;
  RawTensors plain = test::plain_model("v7", "f32");
  test::write_raw(scratch.file("plain.pth"), plain);
  const std::string folder = write_adapter(scratch, plain, {"blocks.1.att.key"}, 1.0);
  struct Case {
    std::string config;
    std::vector<const char*> parts;
  };
  const Case cases[] = {
      {"{\"peft_type\": \"IA3\", \"r\": 4}", {"peft_type", "expected LORA, found \"IA3\"", "PEFT"}},
      {"{\"peft_type\": 5}", {"peft_type", "found 5"}},
      {"{\"r\": 4, \"lora_alpha\": 8}", {"peft_type", "found none"}},
      {config_text(", \"use_dora\": true"), {"use_dora", "expected none, found true"}},
      {config_text(", \"alpha_pattern\": {\"key\": 3}"), {"alpha_pattern"}},
      {config_text(", \"fan_in_fan_out\": true"), {"fan_in_fan_out"}},
      {config_text(", \"init_lora_weights\": \"pissa_niter_4\""),
       {"init_lora_weights", "pissa_niter_4", "plain LoRA"}},
      {config_text("", "0"), {"r: expected a rank", "found 0"}},
      {config_text("", "\"four\""), {"r: expected a rank", "found \"four\""}},
      {config_text("", "8"), {"r is 8", "blocks.1.att.key.lora_A", "another adapter"}},
      {config_text("", "4", "[\"value\", \"ffn.key\"]"),
       {"target_modules are value, ffn.key", "blocks.1.att.key"}},
      {config_text("", "4", "[1]"), {"target_modules", "found 1"}},
      {"[1]", {"expected a JSON object"}},
  };
  for (const Case& one : cases) {
    INFO(one.config);
    test::write_text(folder + "/adapter_config.json", one.config);
    const Status status = merged(scratch.file("plain.pth"), folder).status();
    INFO(status.message());
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains("adapter_config.json"));
    CHECK(test::says_what_to_do(status.message()));
    for (const char* part : one.parts) {
      CHECK_THAT(status.message(), Contains(part));
    }
  }
  // Names and patterns that fit are no matter.
  for (const char* targets : {"[\"key\", \"value\"]", "[\"att.key\"]", "\"all-linear\""}) {
    test::write_text(folder + "/adapter_config.json", config_text("", "4", targets));
    CHECK(merged(scratch.file("plain.pth"), folder).ok());
  }
  // A configuration without tensors, and a tensor that lies divided in BlinkDL's models.
  std::filesystem::remove(folder + "/adapter_model.safetensors");
  CHECK_THAT(merged(scratch.file("plain.pth"), folder).status().message(),
             Contains("found its configuration alone"));
  CHECK(foreign_targets("model.layers.0.attn.x_proj.0.linear.weight").empty());
  CHECK(foreign_targets("layers.x.attn.r_proj.weight").empty());
  CHECK(foreign_targets("blocks.0.ffn.time_mix_k").empty());
}

}  // namespace rwkv::press
