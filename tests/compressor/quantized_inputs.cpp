// GGUF files made for llama.cpp with quantised matrices, as checkpoints: what they are packed as,
// and when rounding again needs permission. And checkpoints with values that are none.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <random>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/write.h"
#include "compressor/pipeline/pipeline.h"
#include "formats/base/half.h"
#include "formats/base/little_endian.h"
#include "formats/container/gguf_writer.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

using Bytes = std::vector<std::byte>;

// Random blocks whose f16 scales are small numbers: bytes at `scales` of each block.
Bytes random_blocks(DType dtype, uint64_t n_elements, std::mt19937& draw) {
  const DTypeTraits& type = traits(dtype);
  Bytes bytes(n_elements / type.block * type.block_bytes);
  for (std::byte& byte : bytes) {
    byte = static_cast<std::byte>(draw());
  }
  const auto scale_at = [&](size_t block, size_t at) {
    store_le<uint16_t>(bytes.data() + block * type.block_bytes + at, f32_to_f16(1e-4f));
  };
  for (size_t block = 0; block < n_elements / type.block; ++block) {
    if (dtype == DType::Q6_K) {
      scale_at(block, 208);
    } else {
      scale_at(block, 0);
    }
    if (dtype == DType::Q4_K) {
      scale_at(block, 2);
    }
  }
  return bytes;
}

struct Stored {
  std::string name;
  GgmlType type;
  std::vector<uint64_t> dims;  // innermost first
  Bytes bytes;
};

// A v7 model of one block as llama.cpp names it: vectors f32, matrices in blocks. The values of the
// matrices go to `values`, under BlinkDL's names.
std::string write_quantised(const ScratchFolder& scratch, DType dtype, GgmlType type,
                            std::map<std::string, std::vector<float>>& values) {
  constexpr uint64_t kEmbd = 256, kLora = 32, kVocab = 256;
  std::mt19937 draw(11);
  std::vector<Stored> tensors;
  const auto f32 = [&](const std::string& name, std::vector<uint64_t> dims, float middle) {
    uint64_t n = 1;
    for (const uint64_t dim : dims) {
      n *= dim;
    }
    std::vector<float> noise(n);
    for (float& value : noise) {
      value = middle + 0.1f * (static_cast<float>(draw() % 2001) / 1000.0f - 1.0f);
    }
    const auto bytes = std::as_bytes(std::span(noise));
    tensors.push_back({name, GgmlType::F32, std::move(dims), {bytes.begin(), bytes.end()}});
  };
  const auto matrix = [&](const std::string& name, const std::string& blinkdl) {
    Bytes bytes = random_blocks(dtype, kEmbd * kEmbd, draw);
    values[blinkdl].resize(kEmbd * kEmbd);
    decode_to_f32(dtype, bytes, values[blinkdl]);
    tensors.push_back({name, type, {kEmbd, kEmbd}, std::move(bytes)});
  };
  matrix("token_embd.weight", "emb.weight");
  const std::string block = "blk.0.";
  for (const char* norm : {"token_embd_norm", "output_norm", "blk.0.attn_norm", "blk.0.attn_norm_2",
                           "blk.0.time_mix_ln"}) {
    f32(std::string(norm) + ".weight", {kEmbd}, 1.0f);
    f32(std::string(norm) + ".bias", {kEmbd}, 0.0f);
  }
  f32(block + "time_mix_lerp_fused.weight", {kEmbd, 1, 1, 6}, 0.5f);
  f32(block + "channel_mix_lerp_k.weight", {kEmbd}, 0.5f);
  for (const char* vector : {"w0", "a0", "k_k", "k_a", "r_k"}) {
    f32(block + "time_mix_" + vector + ".weight", {kEmbd}, 0.1f);
  }
  for (const char* pair : {"w", "a", "g"}) {
    f32(block + "time_mix_" + pair + "1.weight", {kEmbd, kLora}, 0.0f);
    f32(block + "time_mix_" + pair + "2.weight", {kLora, kEmbd}, 0.0f);
  }
  for (const char* name : {"receptance", "key", "value", "output"}) {
    matrix(block + "time_mix_" + name + ".weight", std::string("blocks.0.att.") + name + ".weight");
  }
  for (const char* name : {"key", "value"}) {
    matrix(block + "channel_mix_" + name + ".weight",
           std::string("blocks.0.ffn.") + name + ".weight");
  }
  matrix("output.weight", "head.weight");
  GgufMetadata metadata;
  metadata.set("general.architecture", GgufValue::string("rwkv7"));
  metadata.set("rwkv7.embedding_length", GgufValue::u32(kEmbd));
  metadata.set("rwkv7.wkv.head_size", GgufValue::u32(64));
  static_assert(kVocab == kEmbd, "all matrices are square here");
  std::vector<GgufTensorPlan> plans;
  for (const Stored& tensor : tensors) {
    plans.push_back({tensor.name, tensor.type, tensor.dims, tensor.bytes.size()});
  }
  const std::string path = scratch.file("quantised.gguf");
  auto writer = GgufWriter::create(path, OutputFile::Existing::Replace, metadata, plans);
  REQUIRE_OK(writer.status());
  for (const Stored& tensor : tensors) {
    REQUIRE_OK(writer.value()->append(tensor.bytes));
  }
  REQUIRE_OK(writer.value()->finish());
  return path;
}

std::vector<std::string> rounded_again(const std::string& path, const std::string& preset) {
  const auto checkpoint = press::open_checkpoint(path).take();
  const auto model = press::identify_checkpoint(*checkpoint.source).take();
  const auto recipe =
      press::parse_recipe(press::find_preset(preset).value()->yaml, "test", {}).take();
  const auto plan = press::plan_stages(recipe, model).take();
  return press::rounded_again(recipe, *checkpoint.source, plan);
}

// `path` again, as safetensors of f32, with one value replaced.
std::string with_value(const ScratchFolder& scratch, const std::string& path,
                       const std::string& tensor, size_t at, float value) {
  const auto checkpoint = press::open_checkpoint(path).take();
  const TensorSource& source = *checkpoint.source;
  std::vector<TensorInfo> infos = source.tensors();
  for (TensorInfo& info : infos) {
    info.dtype = DType::F32;
  }
  const std::string output = scratch.file("changed.safetensors");
  REQUIRE_OK(press::write_checkpoint(output, OutputFile::Existing::Replace, infos,
                                     [&](size_t i, Bytes& out) -> Status {
                                       RWKV_TRY(press::read_as(source, i, DType::F32, out));
                                       if (infos[i].name == tensor) {
                                         store_le<float>(out.data() + at * sizeof(float), value);
                                       }
                                       return {};
                                     }));
  return output;
}

}  // namespace

TEST_CASE("GGUF in K-quants is packed with the values of its blocks", "[quantized_inputs]") {
  const ScratchFolder scratch;
  struct Kind {
    DType dtype;
    GgmlType type;
  };
  for (const Kind kind : {Kind{DType::Q4_K, GgmlType::Q4_K}, Kind{DType::Q6_K, GgmlType::Q6_K},
                          Kind{DType::IQ4_XS, GgmlType::IQ4_XS}}) {
    std::map<std::string, std::vector<float>> values;
    const std::string input = write_quantised(scratch, kind.dtype, kind.type, values);
    const std::string packed = scratch.file("m.gguf");
    REQUIRE_OK(convert(input, packed, {}));
    const auto back = press::open_checkpoint(packed).take();
    size_t n_compared = 0;
    for (size_t i = 0; i < back.source->tensors().size(); ++i) {
      const auto expected = values.find(back.source->tensors()[i].name);
      if (expected == values.end()) {
        continue;
      }
      Bytes bytes;
      REQUIRE_OK(press::read_as(*back.source, i, DType::F32, bytes));
      INFO(traits(kind.dtype).name << " " << expected->first);
      REQUIRE(bytes.size() == expected->second.size() * sizeof(float));
      CHECK(std::memcmp(bytes.data(), expected->second.data(), bytes.size()) == 0);
      ++n_compared;
    }
    CHECK(n_compared == values.size());
  }
}

TEST_CASE("Rounding blocks again needs permission, decoding them does not", "[quantized_inputs]") {
  const ScratchFolder scratch;
  std::map<std::string, std::vector<float>> values;
  const std::string input = write_quantised(scratch, DType::Q4_K, GgmlType::Q4_K, values);
  CHECK(rounded_again(input, "fp32").empty());
  for (const char* preset : {"int8", "fp16"}) {
    std::vector<std::string> names = rounded_again(input, preset);
    std::sort(names.begin(), names.end());
    std::vector<std::string> expected;
    for (const auto& [name, unused] : values) {
      expected.push_back(name);
    }
    CHECK(names == expected);
  }
}

TEST_CASE("Values that are none are refused in every codec, vectors too", "[quantized_inputs]") {
  const ScratchFolder scratch;
  const std::string plain = write_synth(scratch, "v7");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  struct Place {
    const char* tensor;
    size_t at;
    const char* says;
  };
  for (const Place& place : {Place{"blocks.1.ln1.weight", 5, "row 0, column 5"},
                             Place{"blocks.0.ln0.bias", 3, "row 0, column 3"},
                             Place{"blocks.1.att.w0", 7, "row 0, column 7"},
                             Place{"blocks.0.att.key.weight", 130, "row 1, column 2"},
                             Place{"blocks.1.ffn.value.weight", 1030, "row 2, column 6"},
                             Place{"blocks.1.att.w1", 70, "row 1, column"},
                             Place{"emb.weight", 128 * 9 + 1, "row 9, column 1"}}) {
    for (const float value : {nan, HUGE_VALF}) {
      const std::string input = with_value(scratch, plain, place.tensor, place.at, value);
      for (const char* preset : {"fp32", "fp16", "int8"}) {
        const Status status = convert(input, scratch.file("m.gguf"), {preset, "bytes"});
        INFO(preset << " " << place.tensor);
        REQUIRE(status.code() == Code::BadInput);
        CHECK_THAT(status.message(), Contains("changed.safetensors") &&
                                         Contains(std::string("'") + place.tensor + "'") &&
                                         Contains(place.says) && Contains("original checkpoint"));
        CHECK_FALSE(std::filesystem::exists(scratch.file("m.gguf")));
      }
    }
  }
}

TEST_CASE("Values beyond a codec name the row of the whole matrix", "[quantized_inputs]") {
  const ScratchFolder scratch;
  const std::string input = with_value(scratch, write_synth(scratch, "v7"),
                                       "blocks.0.att.key.weight", 128 * 100 + 4, 1e6f);
  const Status status = convert(input, scratch.file("m.gguf"), {"fp16", "bytes"});
  CHECK_THAT(status.message(), Contains("row 100, column 4") && Contains("another codec"));
}
