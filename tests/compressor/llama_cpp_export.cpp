// Files for llama.cpp: what our reader of its files makes of them, what is refused, and that the
// bytes do not depend on threads. scripts/compare_llama_cpp.sh runs such files in llama.cpp.
#include <ATen/Parallel.h>

#include <cmath>
#include <map>

#include "compressor/checkpoint/open.h"
#include "compressor/llama_cpp/block_layout.h"
#include "compressor/llama_cpp/block_rounding.h"
#include "compressor/llama_cpp/export.h"
#include "compressor/llama_cpp/vocabulary.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "formats/base/half.h"
#include "formats/container/ggml_super_blocks.h"
#include "formats/tokenizer/vocabulary_metadata.h"
#include "tests/compressor/demo_model.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"
#include "tests/support/way_out.h"

using namespace rwkv;
using namespace rwkv::test;
using press::LlamaCppOptions;

namespace {

struct Bed {
  // 256 channels, so that super-blocks fit.
  explicit Bed(const std::string& arch, uint64_t n_embd = 256)
      : input(write_synth(scratch, arch, n_embd)), text(write_text(scratch, 4000)) {
    options.output = scratch.file("out.gguf");
    options.existing = OutputFile::Existing::Replace;
    options.model_name = "test";
    options.vocabulary = Vocabulary{};
  }
  Result<press::LlamaCppResult> write(DType type) {
    options.type = options.head = options.embedding = type;
    return write();
  }
  Result<press::LlamaCppResult> write() {
    RWKV_ASSIGN(const press::Checkpoint checkpoint, press::open_checkpoint(input));
    RWKV_ASSIGN(const Identified model, press::identify_checkpoint(*checkpoint.source));
    return press::export_to_llama_cpp(*checkpoint.source, model, options);
  }
  void learn(uint64_t samples, uint64_t length) {
    const auto checkpoint = press::open_checkpoint(input);
    REQUIRE_OK(checkpoint.status());
    const auto model = press::identify_checkpoint(*checkpoint.value().source);
    REQUIRE_OK(model.status());
    auto calibration = press::sample_texts(
        {.texts = {text}, .statistics = {}, .samples = samples, .length = length},
        options.vocabulary, model.value().config);
    REQUIRE_OK(calibration.status());
    options.calibration = calibration.take();
  }
  // Squared differences of logits between the input and the output.
  double logits_off(const std::vector<int32_t>& tokens) const {
    const auto logits_of = [&](const std::string& path, const std::string& packed) {
      return all_logits(convert_and_open(path, scratch.file(packed), {}), tokens, tokens.size());
    };
    const auto dense = logits_of(input, "a.gguf");
    const auto rounded = logits_of(options.output, "b.gguf");
    double sum = 0;
    for (size_t i = 0; i < dense.size(); ++i) {
      sum += std::pow(static_cast<double>(dense[i] - rounded[i]), 2);
    }
    return sum;
  }

  ScratchFolder scratch;
  std::string input;
  std::string text;
  LlamaCppOptions options;
};

using Values = std::map<std::string, std::vector<float>>;

Values values_of(const std::string& path) {
  const auto checkpoint = press::open_checkpoint(path);
  REQUIRE_OK(checkpoint.status());
  const TensorSource& source = *checkpoint.value().source;
  REQUIRE_OK(press::identify_checkpoint(source).status());
  Values values;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    std::vector<std::byte> bytes;
    REQUIRE_OK(source.read(i, bytes));
    std::vector<float>& each = values[source.tensors()[i].name];
    each.resize(source.tensors()[i].n_elements());
    decode_to_f32(source.tensors()[i].dtype, bytes, each);
  }
  return values;
}

double energy(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) {
    sum += static_cast<double>(value) * static_cast<double>(value);
  }
  return sum;
}

// Relative squared difference of all values.
double lost(const Values& before, const Values& after) {
  double difference = 0;
  double all = 0;
  for (const auto& [name, values] : before) {
    if (name.find("0.att.v0") != std::string::npos || name.find("0.att.v1") != std::string::npos ||
        name.find("0.att.v2") != std::string::npos) {
      continue;  // not used, and not written
    }
    INFO(name);
    REQUIRE(after.count(name) == 1);
    std::vector<float> off = after.at(name);
    REQUIRE(off.size() == values.size());
    for (size_t i = 0; i < off.size(); ++i) {
      off[i] -= values[i];
    }
    difference += energy(off);
    all += energy(values);
  }
  return difference / all;
}

std::string refusal(const Status& status) {
  INFO(status.message());
  REQUIRE_FALSE(status.ok());
  CHECK(says_what_to_do(status.message()));
  return status.message();
}

at::Tensor noise_matrix(int64_t rows, int64_t cols, uint64_t seed) {
  at::Tensor matrix = at::empty({rows, cols}, at::kFloat);
  for (int64_t i = 0; i < matrix.numel(); ++i) {
    // Products of two are more like weights than evenly spread values.
    matrix.data_ptr<float>()[i] =
        noise(seed, 2 * static_cast<uint64_t>(i)) * noise(seed, 2 * static_cast<uint64_t>(i) + 1);
  }
  return matrix;
}

double output_error(const at::Tensor& off, const at::Tensor& moments) {
  return at::mm(off, moments).mul(off).sum().item<double>();
}

}  // namespace

TEST_CASE("A file for llama.cpp has all values of the model", "[llama_cpp]") {
  Bed bed(GENERATE("v6", "v7"));
  const auto written = bed.write(DType::F32);
  REQUIRE_OK(written.status());
  CHECK(lost(values_of(bed.input), values_of(bed.options.output)) == 0);
  // And our runtime computes the same with it.
  const std::vector<int32_t> tokens = {5, 99, 32, 200, 7, 7, 64, 31, 180, 2};
  const auto logits_of = [&](const std::string& input) {
    return all_logits(convert_and_open(input, bed.scratch.file("packed.gguf"), {}), tokens, 10);
  };
  CHECK(max_difference(logits_of(bed.input), logits_of(bed.options.output)) == 0);
}

TEST_CASE("Each type of llama.cpp loses as much as it has bits for", "[llama_cpp]") {
  const auto [type, most] = GENERATE(table<DType, double>({{DType::F16, 1e-6},
                                                           {DType::Q8_0, 5e-5},
                                                           {DType::Q6_K, 6e-4},
                                                           {DType::Q4_K, 8e-3},
                                                           {DType::IQ4_NL, 8e-3},
                                                           {DType::Q4_0, 1e-2}}));
  INFO(traits(type).name);
  Bed bed("v7");
  REQUIRE_OK(bed.write(type).status());
  const double share = lost(values_of(bed.input), values_of(bed.options.output));
  CHECK(share < most);
  // Else it was not rounded at all; the checkpoint's own values fit half floats.
  CHECK((type == DType::F16 || share > most / 40));
}

TEST_CASE("Super-blocks are laid as they are read", "[llama_cpp]") {
  std::vector<uint8_t> codes(256);
  std::vector<int> scales(16);
  std::vector<int> minima(8);
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint8_t>(i * 37 % 64);
  }
  for (size_t i = 0; i < scales.size(); ++i) {
    scales[i] = static_cast<int>(i * 29 % 256) - 128;
  }
  std::vector<float> values(256);
  std::vector<std::byte> bytes;
  press::append_q6_k(codes, {0.5f, 0, scales, {}}, bytes);
  decode_q6_k(bytes, values);
  for (size_t i = 0; i < values.size(); ++i) {
    REQUIRE(values[i] == 0.5f * static_cast<float>(scales[i / 16] * (codes[i] - 32)));
  }
  scales.resize(8);
  for (size_t i = 0; i < scales.size(); ++i) {
    scales[i] = static_cast<int>(i * 23 % 64);
    minima[i] = static_cast<int>(i * 41 % 64);
  }
  for (uint8_t& code : codes) {
    code %= 16;
  }
  bytes.clear();
  press::append_q4_k(codes, {0.25f, 0.125f, scales, minima}, bytes);
  decode_q4_k(bytes, values);
  for (size_t i = 0; i < values.size(); ++i) {
    REQUIRE(values[i] == 0.25f * static_cast<float>(scales[i / 32] * codes[i]) -
                             0.125f * static_cast<float>(minima[i / 32]));
  }
}

TEST_CASE("Moments lower the error of a product in every type with codes", "[llama_cpp]") {
  const DType type = GENERATE(DType::Q4_0, DType::IQ4_NL, DType::Q4_K, DType::Q6_K);
  INFO(traits(type).name);
  const at::Tensor weights = noise_matrix(48, 256, 1);
  const at::Tensor inputs =
      at::mm(noise_matrix(600, 64, 2), noise_matrix(64, 256, 3)) + 0.1 * noise_matrix(600, 256, 4);
  const at::Tensor moments = at::mm(inputs.t(), inputs) / 600;
  const auto error = [&](const press::InputStatistics& statistics) {
    auto rounded = press::round_to_type(weights, type, statistics);
    REQUIRE_OK(rounded.status());
    return output_error(rounded.value().values - weights, moments);
  };
  const double plain = error({});
  const double weighted = error({{}, moments.diagonal().contiguous()});
  const double learnt = error({moments, {}});
  CHECK(weighted < 1.1 * plain);
  CHECK(learnt < 0.5 * plain);
}

TEST_CASE("Rows of zeros, tiny and large values are rounded to what they are", "[llama_cpp]") {
  const DType type = GENERATE(DType::Q8_0, DType::Q4_0, DType::IQ4_NL, DType::Q4_K, DType::Q6_K);
  INFO(traits(type).name);
  at::Tensor weights = noise_matrix(4, 256, 1);
  weights[0].zero_();
  weights[1].mul_(1e-7);
  weights[2].mul_(3e4);
  const auto rounded = press::round_to_type(weights, type, {});
  REQUIRE_OK(rounded.status());
  const at::Tensor off = (rounded.value().values - weights).abs();
  CHECK(off[0].max().item<float>() == 0);
  CHECK(off[1].max().item<float>() <= 1e-6f);
  CHECK(off[2].max().item<float>() < 0.3f * 3e4f);
  CHECK(at::isfinite(rounded.value().values).all().item<bool>());
  weights[3][7] = 1e6;
  CHECK(press::round_to_type(weights, type, {}).status().code() == Code::BadInput);
  weights[3][7] = std::nan("");
  CHECK(press::round_to_type(weights, type, {}).status().code() == Code::BadInput);
}

TEST_CASE("A file for llama.cpp is the same with any number of threads", "[llama_cpp]") {
  Bed bed("v7");
  bed.learn(8, 64);
  const DType type = GENERATE(DType::Q4_0, DType::Q4_K);
  const int before = at::get_num_threads();
  std::vector<std::vector<std::byte>> files;
  for (const int n : {1, 3}) {
    at::set_num_threads(n);
    REQUIRE_OK(bed.write(type).status());
    files.push_back(read_bytes(bed.options.output));
  }
  at::set_num_threads(before);
  CHECK(files[0] == files[1]);
}

TEST_CASE("Text gives a better file of the same size", "[llama_cpp]") {
  Bed bed("v6");
  const std::vector<int32_t> tokens = {40, 50, 32, 116, 105, 109, 101, 115, 32, 55, 32, 109};
  REQUIRE_OK(bed.write(DType::Q4_0).status());
  const double without = bed.logits_off(tokens);
  const size_t size = read_bytes(bed.options.output).size();
  bed.learn(8, 64);
  REQUIRE_OK(bed.write(DType::Q4_0).status());
  CHECK(read_bytes(bed.options.output).size() == size);
  CHECK(bed.logits_off(tokens) < 0.75 * without);
}

TEST_CASE("Text gives a better embedding of the same size", "[llama_cpp]") {
  Bed bed("v7");
  const DemoModel demo = demo_model(bed.scratch, 1000, 20);
  bed.input = std::string(RWKV_SOURCE_DIR) + "/configs/demo/v7/demo.pth";
  bed.text = demo.train;
  bed.options.vocabulary = read_vocabulary_file(demo.vocabulary).take();
  bed.options.type = bed.options.head = DType::F16;
  bed.options.embedding = DType::Q4_0;
  const auto tokenizer = make_tokenizer(*bed.options.vocabulary);
  REQUIRE_OK(tokenizer.status());
  std::vector<int32_t> tokens;
  const std::vector<std::byte> story = read_bytes(demo.test);
  REQUIRE_OK(tokenizer.value()->encode({reinterpret_cast<const char*>(story.data()), story.size()},
                                       tokens));
  REQUIRE(tokens.size() > 400);
  tokens.resize(400);
  REQUIRE_OK(bed.write().status());
  const double without = bed.logits_off(tokens);
  bed.learn(16, 256);
  REQUIRE_OK(bed.write().status());
  CHECK(bed.logits_off(tokens) < 0.9 * without);
}

TEST_CASE("Pairs are multiplied out, and it is said", "[llama_cpp]") {
  Bed bed("v6", 128);
  const std::string packed = bed.scratch.file("pairs.gguf");
  REQUIRE_OK(convert(bed.input, packed,
                     {.vocab = "bytes",
                      .set = {},
                      .recipe = "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
                                "  - low_rank: {factor: 4}\n"
                                "  - quantize: {codec: f32, lora_codec: f32}\n",
                      .texts = {bed.text}}));
  const Values before = values_of(packed);
  REQUIRE(before.count("blocks.0.att.key1.weight") == 1);
  bed.input = packed;
  const auto written = bed.write(DType::F32);
  REQUIRE_OK(written.status());
  REQUIRE_FALSE(written.value().notes.empty());
  CHECK_THAT(written.value().notes.front(), Catch::Contains("multiplied out"));
  const auto checkpoint = press::open_checkpoint(packed);
  const auto load = [&](const char* name) {
    auto tensor = press::load_named(*checkpoint.value().source, name);
    REQUIRE_OK(tensor.status());
    return tensor.take();
  };
  at::Tensor product =
      at::mm(load("blocks.1.att.value2.weight"), load("blocks.1.att.value1.weight"));
  const std::vector<float> dense = values_of(bed.options.output).at("blocks.1.att.value.weight");
  if (before.count("blocks.1.att.value_diag") == 1) {
    product.diagonal().add_(load("blocks.1.att.value_diag").reshape({-1}));
  }
  REQUIRE(product.numel() == static_cast<int64_t>(dense.size()));
  const at::Tensor back = at::tensor(dense).reshape(product.sizes());
  CHECK((product - back).abs().max().item<float>() < 1e-5f);
}

TEST_CASE("What llama.cpp cannot run is refused in one line", "[llama_cpp]") {
  for (const char* arch : {"v4", "v5.1", "v5.2"}) {
    Bed bed(arch, 64);
    const std::string line = refusal(bed.write(DType::F16).status());
    CHECK_THAT(line, Catch::Contains("v6 and v7") && Catch::Contains(arch));
    CHECK(bed.scratch.entries().size() == 2);  // nothing was written
  }
  Bed bed("v7", 64);
  const auto checkpoint = press::open_checkpoint(bed.input);
  auto model = press::identify_checkpoint(*checkpoint.value().source);
  const auto refused = [&](const char* part) {
    CHECK_THAT(refusal(press::check_llama_cpp_runs(model.value(), "m.pth")),
               Catch::Contains("m.pth") && Catch::Contains(part));
  };
  model.value().config.group_norm_eps = 1e-5f;
  refused("epsilon");
  model.value().config.group_norm_eps = 64e-5f;
  model.value().tensors.back().role = Role::InitialState;
  refused("tuned state");
  model.value().config.dim_att = 128;
  refused("time_mix");
  bed.options.vocabulary->kind = TokenizerKind::WordLevel;
  bed.options.vocabulary->tokens = {"a", "b"};
  CHECK_THAT(refusal(bed.write(DType::F16).status()), Catch::Contains("list of words"));
  bed.options.vocabulary = tiny_vocabulary(TinyVocabulary::Bpe);
  bed.options.vocabulary->add_prefix_space = true;
  CHECK_THAT(refusal(bed.write(DType::F16).status()), Catch::Contains("rules of its own"));
}

TEST_CASE("Rows that are no whole number of blocks get a narrower type", "[llama_cpp]") {
  CHECK(press::fitting_type(DType::Q4_K, 256) == DType::Q4_K);
  CHECK(press::fitting_type(DType::Q4_K, 64) == DType::IQ4_NL);
  CHECK(press::fitting_type(DType::Q6_K, 96) == DType::Q8_0);
  CHECK(press::fitting_type(DType::Q6_K, 40) == DType::F16);
  Bed bed("v7", 64);
  const auto written = bed.write(DType::Q4_K);
  REQUIRE_OK(written.status());
  CHECK_THAT(fmt::format("{}", fmt::join(written.value().notes, "\n")),
             Catch::Contains("as iq4_nl"));
}

TEST_CASE("The vocabulary and the template go to llama.cpp", "[llama_cpp]") {
  const Vocabulary world = tiny_vocabulary(TinyVocabulary::World);
  const auto chat = chat_template_named("world", "t");
  GgufMetadata metadata;
  std::vector<std::string> notes;
  REQUIRE_OK(press::append_llama_cpp_vocabulary(world, chat.value(), world.tokens.size() + 5,
                                                metadata, notes));
  CHECK(notes.empty());
  CHECK(metadata.get_string("tokenizer.ggml.model").value() == "rwkv");
  const auto& tokens = *metadata.get_strings("tokenizer.ggml.tokens").value();
  CHECK(tokens.size() == world.tokens.size() + 5);
  CHECK(tokens.front() == "<s>");
  CHECK(tokens.back() == fmt::format("[PAD{}]", tokens.size() - 1));
  CHECK(metadata.get_u64("tokenizer.ggml.eos_token_id").value() == 0);
  // Our reader takes it back.
  auto back = vocabulary_from_metadata(metadata);
  REQUIRE_OK(back.status());
  back.value().tokens.resize(world.tokens.size());
  CHECK(back.value().tokens == world.tokens);
  const std::string jinja = metadata.get_string("tokenizer.chat_template").value();
  CHECK_THAT(jinja, Catch::Contains("rwkv-world"));
  CHECK_THAT(jinja, Catch::Contains("'User: ' + (message['content']|trim)"));
  CHECK_THAT(jinja, Catch::Contains("{{- 'Assistant:' -}}"));
  CHECK(jinja.find('\n') == std::string::npos);

  GgufMetadata thinking;
  REQUIRE_OK(press::append_llama_cpp_vocabulary(world, chat_template_named("g1-think", "t").value(),
                                                world.tokens.size(), thinking, notes));
  CHECK_FALSE(thinking.contains("tokenizer.ggml.eot_token_id"));
  CHECK_THAT(thinking.get_string("tokenizer.chat_template").value(),
             Catch::Contains("'Assistant: <think'"));
  CHECK_THAT(notes.at(0), Catch::Contains("-r"));
  CHECK(press::jinja_of(*chat_template_named("none", "t").value(), true).empty());
}

TEST_CASE("Bytes and BPE go to llama.cpp too, and so does a model without vocabulary",
          "[llama_cpp]") {
  std::vector<std::string> notes;
  GgufMetadata bytes;
  REQUIRE_OK(press::append_llama_cpp_vocabulary(Vocabulary{}, nullptr, 258, bytes, notes));
  const auto back = vocabulary_from_metadata(bytes);
  REQUIRE_OK(back.status());
  CHECK(back.value().tokens.at(0) == std::string(1, '\0'));
  CHECK(back.value().tokens.at(255) == "\xff");
  const Vocabulary bpe = tiny_vocabulary(TinyVocabulary::Bpe);
  GgufMetadata merged;
  REQUIRE_OK(press::append_llama_cpp_vocabulary(bpe, nullptr, bpe.tokens.size(), merged, notes));
  CHECK(merged.get_string("tokenizer.ggml.model").value() == "gpt2");
  CHECK(merged.get_string("tokenizer.ggml.pre").value() == "gpt-2");
  CHECK(vocabulary_from_metadata(merged).value().merges == bpe.merges);
  CHECK(notes.empty());
  GgufMetadata none;
  REQUIRE_OK(press::append_llama_cpp_vocabulary({}, nullptr, 300, none, notes));
  CHECK(none.get_string("tokenizer.ggml.model").value() == "none");
  CHECK_THAT(notes.at(0), Catch::Contains("--vocab"));
}
