// GGUF made for llama.cpp: small models converted by hand as its converter does must come back
// under BlinkDL's names with BlinkDL's values.
#include <map>
#include <string>
#include <vector>

#include "formats/container/gguf_writer.h"
#include "formats/container/llama_cpp_reader.h"
#include "tests/formats/damaged_files.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"
#include "tests/support/way_out.h"

namespace rwkv {
namespace {

using Shape = std::vector<uint64_t>;

// Collects tensors (shape outermost first, as stored) and writes the file.
class GgufModel {
 public:
  explicit GgufModel(const std::string& architecture) : architecture_(architecture) {
    metadata.set("general.architecture", GgufValue::string(architecture));
    metadata.set(architecture + ".embedding_length", GgufValue::u32(6));
    metadata.set(architecture + ".wkv.head_size", GgufValue::u32(3));
  }
  // Values are noise of `seed`.
  GgufModel& f32(const std::string& name, const Shape& shape, uint64_t seed) {
    const TensorInfo info{name, DType::F32, shape};
    plans_.push_back({name, GgmlType::F32, Shape(shape.rbegin(), shape.rend()), info.n_bytes()});
    for (uint64_t i = 0; i < info.n_elements(); ++i) {
      values_.push_back(test::noise(seed, i));
    }
    return *this;
  }
  std::string write(const test::ScratchFolder& folder) const {
    const std::string path = folder.file("model.gguf");
    auto writer = GgufWriter::create(path, OutputFile::Existing::Replace, metadata, plans_);
    REQUIRE_OK(writer.status());
    REQUIRE_OK(writer.value()->append(std::as_bytes(std::span(values_))));
    REQUIRE_OK(writer.value()->finish());
    return path;
  }

  GgufMetadata metadata;

 private:
  std::string architecture_;
  std::vector<GgufTensorPlan> plans_;
  std::vector<float> values_;
};

struct Read {
  Shape shape;
  std::vector<float> values;
};

std::map<std::string, Read> read_all(const GgufModel& model) {
  const test::ScratchFolder folder;
  auto opened = open_llama_cpp_gguf(model.write(folder));
  REQUIRE_OK(opened.status());
  CHECK(opened.value()->format() == "gguf");
  CHECK(opened.value()->metadata().count("general.architecture") == 1);
  test::check_reads_agree(*opened.value());
  std::map<std::string, Read> result;
  for (size_t i = 0; i < opened.value()->tensors().size(); ++i) {
    const TensorInfo& info = opened.value()->tensors()[i];
    std::vector<std::byte> bytes;
    REQUIRE_OK(opened.value()->read(i, bytes));
    Read& read = result[info.name];
    read.shape = info.shape;
    read.values.resize(info.n_elements());
    decode_to_f32(info.dtype, bytes, read.values);
  }
  return result;
}

std::string refusal(const GgufModel& model) {
  const test::ScratchFolder folder;
  const Status status = open_llama_cpp_gguf(model.write(folder)).status();
  REQUIRE(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains("model.gguf"));
  INFO(status.message());
  CHECK(test::says_what_to_do(status.message()));
  return status.message();
}

// Element [m][r][c] of the presented tensor is [m][c][r] of the stored noise.
void check_transposed(const Read& read, uint64_t seed) {
  const size_t rows = read.shape[read.shape.size() - 2];
  const size_t columns = read.shape.back();
  for (size_t i = 0; i < read.values.size(); ++i) {
    const size_t within = i % (rows * columns);
    const size_t stored = i - within + within % columns * rows + within / columns;
    REQUIRE(read.values[i] == test::noise(seed, stored));
  }
}

}  // namespace

TEST_CASE("llama.cpp: v6 comes back under BlinkDL's names", "[llama_cpp]") {
  const std::string att = "blocks.0.att.";
  const auto tensors = read_all(GgufModel("rwkv6")
                                    .f32("token_embd.weight", {4, 6}, 1)
                                    .f32("token_embd_norm.weight", {6}, 2)
                                    .f32("output_norm.bias", {6}, 3)
                                    .f32("output.weight", {4, 6}, 4)
                                    .f32("blk.0.attn_norm_2.bias", {6}, 5)
                                    .f32("blk.0.time_mix_lerp_x.weight", {6}, 6)
                                    .f32("blk.0.time_mix_lerp_fused.weight", {5, 1, 1, 6}, 7)
                                    .f32("blk.0.time_mix_w1.weight", {10, 6}, 8)
                                    .f32("blk.0.time_mix_w2.weight", {5, 6, 2}, 9)
                                    .f32("blk.0.time_mix_decay.weight", {6}, 10)
                                    .f32("blk.0.time_mix_decay_w1.weight", {4, 6}, 11)
                                    .f32("blk.0.time_mix_decay_w2.weight", {6, 4}, 12)
                                    .f32("blk.0.time_mix_first.weight", {2, 3}, 13)
                                    .f32("blk.0.time_mix_ln.weight", {6}, 14)
                                    .f32("blk.0.channel_mix_lerp_r.weight", {6}, 15)
                                    .f32("blk.0.channel_mix_key.weight", {8, 6}, 16));
  CHECK(tensors.size() == 20);
  for (const char* name : {"emb.weight", "blocks.0.ln0.weight", "ln_out.bias", "head.weight",
                           "blocks.0.ln2.bias", "blocks.0.att.ln_x.weight"}) {
    CHECK(tensors.count(name) == 1);
  }
  CHECK(tensors.at("blocks.0.ffn.key.weight").shape == Shape{8, 6});
  CHECK(tensors.at("blocks.0.ffn.time_maa_r").shape == Shape{1, 1, 6});
  CHECK(tensors.at(att + "time_decay").shape == Shape{1, 1, 6});
  CHECK(tensors.at(att + "time_faaaa").shape == Shape{2, 3});
  CHECK(tensors.at(att + "time_maa_w1").shape == Shape{6, 10});
  check_transposed(tensors.at(att + "time_maa_w1"), 8);
  CHECK(tensors.at(att + "time_maa_w2").shape == Shape{5, 2, 6});
  check_transposed(tensors.at(att + "time_maa_w2"), 9);
  check_transposed(tensors.at(att + "time_decay_w1"), 11);
  check_transposed(tensors.at(att + "time_decay_w2"), 12);
  const std::string order = "wkvrg";
  for (size_t i = 0; i < order.size(); ++i) {
    const Read& part = tensors.at(att + "time_maa_" + order[i]);
    CHECK(part.shape == Shape{1, 1, 6});
    CHECK(part.values[5] == test::noise(7, i * 6 + 5));
  }
}

TEST_CASE("llama.cpp: v7 comes back under BlinkDL's names", "[llama_cpp]") {
  const std::string att = "blocks.1.att.";
  const auto tensors = read_all(GgufModel("rwkv7")
                                    .f32("blk.0.time_mix_v0.weight", {6}, 1)
                                    .f32("blk.0.time_mix_v1.weight", {2, 6}, 1)
                                    .f32("blk.0.time_mix_v2.weight", {6, 2}, 1)
                                    .f32("blk.1.time_mix_v0.weight", {6}, 2)
                                    .f32("blk.1.time_mix_v1.weight", {2, 6}, 3)
                                    .f32("blk.1.time_mix_lerp_fused.weight", {6, 1, 1, 6}, 4)
                                    .f32("blk.1.time_mix_r_k.weight", {6}, 5)
                                    .f32("blk.1.channel_mix_lerp_k.weight", {6}, 6));
  CHECK(tensors.size() == 10);
  CHECK(tensors.count("blocks.0.att.v0") == 0);  // a dummy that the converter adds
  CHECK(tensors.at(att + "v0").shape == Shape{1, 1, 6});
  CHECK(tensors.at(att + "v1").shape == Shape{6, 2});
  check_transposed(tensors.at(att + "v1"), 3);
  CHECK(tensors.at(att + "r_k").shape == Shape{2, 3});
  CHECK(tensors.at("blocks.1.ffn.x_k").shape == Shape{1, 1, 6});
  const std::string order = "rwkvag";
  for (size_t i = 0; i < order.size(); ++i) {
    CHECK(tensors.at(att + "x_" + order[i]).values[0] == test::noise(4, i * 6));
  }
}

TEST_CASE("llama.cpp: v6's rescaled weights are scaled back", "[llama_cpp]") {
  GgufModel model("rwkv6");
  model.metadata.set("rwkv6.rescale_every_n_layers", GgufValue::u32(2));
  const auto tensors = read_all(model.f32("blk.1.time_mix_output.weight", {6, 6}, 1)
                                    .f32("blk.2.time_mix_output.weight", {6, 6}, 2)
                                    .f32("blk.5.channel_mix_value.weight", {6, 8}, 3)
                                    .f32("blk.5.channel_mix_key.weight", {8, 6}, 4));
  CHECK(tensors.at("blocks.1.att.output.weight").values[7] == test::noise(1, 7));
  CHECK(tensors.at("blocks.2.att.output.weight").values[7] == 2 * test::noise(2, 7));
  CHECK(tensors.at("blocks.5.ffn.value.weight").values[7] == 4 * test::noise(3, 7));
  CHECK(tensors.at("blocks.5.ffn.key.weight").values[7] == test::noise(4, 7));
}

TEST_CASE("llama.cpp: what is not a model of v6 or v7 is refused", "[llama_cpp]") {
  using Catch::Contains;
  const auto v7_with = [](const std::string& name, const Shape& shape) {
    return GgufModel("rwkv7").f32(name, shape, 1);
  };
  CHECK_THAT(refusal(GgufModel("llama")),
             Contains("general.architecture is \"llama\"") && Contains("not RWKV"));
  CHECK_THAT(refusal(GgufModel("arwkv7")), Contains("ARWKV") && Contains("llama.cpp"));
  CHECK_THAT(refusal(GgufModel("rwkv6qwen2")), Contains("QRWKV") && Contains("llama.cpp"));
  CHECK_THAT(refusal(v7_with("blk.0.time_mix_lerp_fused.weight", {5, 1, 1, 6})),
             Contains("no gate"));
  CHECK_THAT(refusal(v7_with("rope_freqs.weight", {6})), Contains("rope_freqs.weight"));
  CHECK_THAT(refusal(v7_with("blk.0.time_mix_first.weight", {6})), Contains("no place"));
  CHECK_THAT(refusal(v7_with("blk.x.attn_norm.weight", {6})), Contains("blk.N."));
  CHECK_THAT(refusal(v7_with("blk.99999999999999999999.attn_norm.weight", {6})),
             Contains("blk.N."));
  CHECK_THAT(refusal(v7_with("blk.0.time_mix_lerp_fused.weight", {4, 1, 1, 6})),
             Contains("expected 6x6"));
  CHECK_THAT(refusal(v7_with("blk.0.time_mix_w1.weight", {6})), Contains("a matrix"));
  CHECK_THAT(refusal(v7_with("blk.0.time_mix_r_k.weight", {7})), Contains("expected 1x6"));
  GgufModel odd_heads("rwkv7");
  odd_heads.metadata.set("rwkv7.wkv.head_size", GgufValue::u32(4));
  CHECK_THAT(refusal(odd_heads), Contains("not a multiple"));
  GgufModel rescaled("rwkv6");
  rescaled.metadata.set("rwkv6.rescale_every_n_layers", GgufValue::u32(1));
  CHECK_THAT(refusal(rescaled.f32("blk.4000.time_mix_output.weight", {6, 6}, 1)),
             Contains("rescaled"));
}

TEST_CASE("damaged llama.cpp files never do worse than a status", "[llama_cpp]") {
  const test::ScratchFolder folder;
  const std::string path = GgufModel("rwkv6")
                               .f32("token_embd.weight", {4, 6}, 1)
                               .f32("blk.0.time_mix_w1.weight", {10, 6}, 8)
                               .f32("blk.0.time_mix_lerp_fused.weight", {5, 1, 1, 6}, 7)
                               .f32("blk.0.time_mix_first.weight", {2, 3}, 13)
                               .write(folder);
  const std::vector<std::byte> good = test::read_bytes(path);
  test::check_every_cut_is_refused(good, open_llama_cpp_gguf);
  test::check_bit_flips(good, open_llama_cpp_gguf);
}

}  // namespace rwkv
