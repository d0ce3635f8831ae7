// Tensors travel as codes: what a packed file holds in the form that it is to be packed in again is
// copied, whatever the recipe does to the rest of the model.
#include <algorithm>
#include <cstring>
#include <map>

#include "compressor/checkpoint/edited_source.h"
#include "compressor/checkpoint/memory_source.h"
#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/pipeline/pipeline.h"
#include "formats/container/packed_keys.h"
#include "formats/container/packed_tensors.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"
#include "tests/support/golden.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

using Bytes = std::vector<std::byte>;

GgufFile parsed(const std::string& path) {
  auto file = GgufFile::parse(read_bytes(path), path);
  REQUIRE_OK(file.status());
  return file.take();
}

// All of it but the recipe, which names every setting that the program has.
void check_same_metadata(const GgufFile& a, const GgufFile& b) {
  const auto& entries = a.metadata().entries();
  REQUIRE(entries.size() == b.metadata().entries().size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto& [key, value] = entries[i];
    const auto& [other_key, other] = b.metadata().entries()[i];
    INFO(key);
    REQUIRE(key == other_key);
    CHECK(value.type == other.type);
    CHECK(value.element == other.element);
    CHECK((value.value == other.value || key == keys::kRecipe));
  }
  REQUIRE(a.tensors().size() == b.tensors().size());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    CHECK(a.tensors()[i].name == b.tensors()[i].name);
    CHECK(a.tensors()[i].dtype == b.tensors()[i].dtype);
    CHECK(a.tensors()[i].dims == b.tensors()[i].dims);
    CHECK(a.tensors()[i].offset % keys::kAlignment == 0);
  }
}

// The packed bytes of every tensor, by name.
std::map<std::string, Bytes> packed_bytes(const std::string& path) {
  const Bytes file = read_bytes(path);
  const auto tensors = packed_tensors(parsed(path));
  REQUIRE_OK(tensors.status());
  std::map<std::string, Bytes> bytes;
  for (const PackedTensor& tensor : tensors.value()) {
    const auto data = std::span(file).subspan(tensor.offset, tensor.n_bytes);
    bytes[tensor.name] = {data.begin(), data.end()};
  }
  return bytes;
}

void check_same(const std::map<std::string, Bytes>& a, const std::map<std::string, Bytes>& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& [name, bytes] : a) {
    INFO(name);
    CHECK((b.at(name) == bytes));
  }
}

std::string synth(const ScratchFolder& scratch, const std::string& arch, const std::string& dtype) {
  press::SynthOptions options;
  options.model.arch = arch;
  options.dtype = dtype;
  options.model.n_layer = 2;
  options.model.n_embd = 64;
  options.model.n_vocab = 256;
  options.output = scratch.file(arch + ".pth");
  options.existing = OutputFile::Existing::Replace;
  REQUIRE_OK(press::write_synthetic(options).status());
  return options.output;
}

// Golden files of format 2, and the preset that they were made with.
constexpr std::pair<const char*, const char*> kGolden[] = {{"v5.2-f16", "fp16"},
                                                           {"v7-i8_row", "int8"}};

void convert_golden(const std::string& model, const std::string& preset, const std::string& out) {
  REQUIRE_OK(convert(golden_file(fmt::format("format2-{}.gguf", model)), out,
                     {preset, "", {"quantize.min_numbers=0"}}));
}

std::vector<std::string> rounded_again(const std::string& path, const std::string& preset) {
  const auto checkpoint = press::open_checkpoint(path).take();
  const auto model = press::identify_checkpoint(*checkpoint.source).take();
  const auto recipe =
      press::parse_recipe(press::find_preset(preset).value()->yaml, "test", {}).take();
  const auto plan = press::plan_stages(recipe, model).take();
  return press::rounded_again(recipe, *checkpoint.source, plan);
}

}  // namespace

TEST_CASE("Golden files of format 2 convert to those of format 3", "[codes]") {
  const ScratchFolder scratch;
  for (const auto& [model, preset] : kGolden) {
    INFO(model);
    const std::string out = scratch.file("out.gguf");
    convert_golden(model, preset, out);
    const std::string expected = golden_file(fmt::format("format3-{}.gguf", model));
    check_same_metadata(parsed(out), parsed(expected));
    check_same(packed_bytes(out), packed_bytes(expected));
  }
}

// By hand, after a change of the layout that gets a new format version: the golden folder's README.
TEST_CASE("Write the golden files of format 3", "[.write_golden]") {
  for (const auto& [model, preset] : kGolden) {
    convert_golden(model, preset, golden_file(fmt::format("format3-{}.gguf", model)));
  }
}

TEST_CASE("The packer still makes the tensors of the golden files", "[codes]") {
  const ScratchFolder scratch;
  for (const auto& [model, preset] : kGolden) {
    INFO(model);
    const bool is_v7 = std::string_view(model).starts_with("v7");
    press::SynthOptions options;
    options.model.arch = is_v7 ? "v7" : "v5.2";
    options.model.n_layer = 1;
    options.model.n_embd = 16;
    options.model.head_size = 8;
    options.model.dim_ffn = 40;
    options.model.n_vocab = is_v7 ? 256 : 24;
    options.seed = is_v7 ? 22 : 21;
    options.output = scratch.file(fmt::format("{}.pth", model));
    REQUIRE_OK(press::write_synthetic(options).status());
    const std::string out = scratch.file("out.gguf");
    REQUIRE_OK(convert(options.output, out, {preset, "", {"quantize.min_numbers=0"}}));
    auto packed = packed_bytes(out);
    auto expected = packed_bytes(golden_file(fmt::format("format2-{}.gguf", model)));
    if (is_v7) {
      // ln0 was folded into it, in an order of sums that depends on the processor.
      packed.erase("emb.weight");
      expected.erase("emb.weight");
    }
    check_same(packed, expected);
  }
}

TEST_CASE("A packed file converted again has the same tensors", "[codes]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7", "x058");
  const std::string dtype = GENERATE("bf16", "f32");
  const std::string preset = GENERATE("fp16", "int8");
  const ScratchFolder scratch;
  const std::string first = scratch.file("first.gguf");
  const std::string second = scratch.file("second.gguf");
  REQUIRE_OK(convert(synth(scratch, arch, dtype), first, {preset, "bytes", {}}));
  CHECK(rounded_again(first, preset).empty());
  REQUIRE_OK(convert(first, second, {preset, "", {}}));
  INFO(arch << " " << dtype << " " << preset);
  check_same(packed_bytes(first), packed_bytes(second));
}

TEST_CASE("Rows of a clustered head keep their codes", "[codes]") {
  const ScratchFolder scratch;
  const std::string input = synth(scratch, "v5.2", "bf16");
  const std::string clustered = scratch.file("clustered.gguf");
  const std::string recipe =
      "name: t\ncalibration: {samples: 8, length: 32}\nstages:\n"
      "  - cluster_head: {clusters: 9, epochs: 1}\n  - quantize: {codec: i8_row}\n";
  Conversion how{"int8", "bytes", {}};
  how.recipe = recipe;
  how.texts = {write_text(scratch, 4000)};
  REQUIRE_OK(convert(input, clustered, how));
  const std::string plain = scratch.file("plain.gguf");
  REQUIRE_OK(convert(input, plain, {"int8", "bytes", {}}));

  // Without clusters again: the rows as they were packed without any.
  const std::string back = scratch.file("back.gguf");
  REQUIRE_OK(convert(clustered, back, {"int8", "", {}}));
  check_same(packed_bytes(plain), packed_bytes(back));

  // With clusters anew: each row where its token is.
  const std::string again = scratch.file("again.gguf");
  how.vocab = "";
  REQUIRE_OK(convert(plain, again, how));
  const auto bytes = packed_bytes(again);
  const Bytes& rows = bytes.at("head.weight");
  const Bytes plain_rows = packed_bytes(plain).at("head.weight");
  std::vector<float> tokens(256);
  std::memcpy(tokens.data(), bytes.at("head.tokens").data(), tokens.size() * sizeof(float));
  const size_t row_bytes = rows.size() / tokens.size();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto token = static_cast<size_t>(tokens[i]);
    REQUIRE((Bytes(rows.begin() + static_cast<std::ptrdiff_t>(i * row_bytes),
                   rows.begin() + static_cast<std::ptrdiff_t>((i + 1) * row_bytes)) ==
             Bytes(plain_rows.begin() + static_cast<std::ptrdiff_t>(token * row_bytes),
                   plain_rows.begin() + static_cast<std::ptrdiff_t>((token + 1) * row_bytes))));
  }
}

TEST_CASE("Parts of a packed file's tensors are parts of the whole", "[codes]") {
  const ScratchFolder scratch;
  const std::string dtype = GENERATE("bf16", "f32");
  const std::string preset = GENERATE("fp16", "int8", "mm8");
  const std::string packed = scratch.file("m.gguf");
  REQUIRE_OK(convert(synth(scratch, "v6", dtype), packed, {preset, "", {}}));
  const auto checkpoint = press::open_checkpoint(packed).take();
  for (size_t i = 0; i < checkpoint.source->tensors().size(); ++i) {
    Bytes whole;
    REQUIRE_OK(checkpoint.source->read(i, whole));
    for (const auto& [from, to] : {std::pair<size_t, size_t>{0, 1}, {1, 3}, {2, 7}, {0, 8}}) {
      const auto at = static_cast<std::ptrdiff_t>(whole.size() * from / 8);
      const auto end = static_cast<std::ptrdiff_t>(whole.size() * to / 8);
      Bytes part(static_cast<size_t>(end - at));
      REQUIRE_OK(checkpoint.source->read_range(i, static_cast<uint64_t>(at), part));
      INFO(checkpoint.source->tensors()[i].name << " from " << at);
      CHECK((part == Bytes(whole.begin() + at, whole.begin() + end)));
    }
  }
}

TEST_CASE("Only what would be rounded again is named", "[codes]") {
  const ScratchFolder scratch;
  const std::string packed = scratch.file("m.gguf");
  REQUIRE_OK(convert(synth(scratch, "v5.2", "f32"), packed, {"int8", "", {}}));
  CHECK(rounded_again(packed, "int8").empty());
  CHECK(rounded_again(packed, "fp32").empty());
  const std::vector<std::string> in_f16 = rounded_again(packed, "fp16");
  CHECK(std::find(in_f16.begin(), in_f16.end(), "blocks.0.att.key.weight") != in_f16.end());
  CHECK(std::find(in_f16.begin(), in_f16.end(), "blocks.0.ln1.weight") == in_f16.end());
  // Types of the source with fewer digits than the decoded values round them.
  REQUIRE_OK(convert(synth(scratch, "v6", "bf16"), packed, {"int8", "", {}}));
  CHECK_FALSE(rounded_again(packed, "fp32").empty());
  REQUIRE_OK(convert(synth(scratch, "v6", "bf16"), packed, {"fp16", "", {}}));
  CHECK(rounded_again(packed, "int8").empty());
}

TEST_CASE("Codes in an edited source decode, move with their rows and give way to values",
          "[codes]") {
  const ScratchFolder scratch;
  constexpr uint64_t kRows = 6;
  constexpr uint64_t kCols = 5;
  std::vector<float> values(kRows * kCols);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = noise(3, i);
  }
  press::MemorySource base("base");
  base.add("blocks.0.ln0.weight", {kCols}, std::vector<float>(kCols, 2.0f));
  base.add("blocks.0.ln0.bias", {kCols}, std::vector<float>(kCols, 0.5f));
  const auto source = press::EditedSource::create(base, scratch.path()).take();
  const CodecTraits& codec = codec_traits(Codec::I8Row);
  const auto encode = [&](uint64_t rows, uint64_t cols) {
    Bytes codes(codec.encoded_bytes(rows, cols));
    REQUIRE_OK(codec.encode(values, {rows, cols}, codes));
    return codes;
  };
  const auto decoded = [&](const Bytes& codes, uint64_t rows, uint64_t cols) {
    std::vector<float> result(rows * cols);
    codec.decode_rows(MatrixView::of(codes.data(), codec.codec, rows, cols), 0, rows, result);
    return result;
  };
  const auto read = [&](const std::string& name) {
    const at::Tensor tensor =
        press::load_f32(*source, source->index_of(name).value()).value().contiguous();
    return std::vector<float>(tensor.data_ptr<float>(), tensor.data_ptr<float>() + tensor.numel());
  };
  const auto codes_of = [&](const std::string& name) {
    Bytes codes;
    REQUIRE_OK(source->read_encoded(source->index_of(name).value(), codes));
    return codes;
  };
  const auto form_of = [&](const std::string& name) {
    return source->encoded(source->index_of(name).value());
  };

  SECTION("as rows, and in another order") {
    const Bytes codes = encode(kRows, kCols);
    REQUIRE_OK(source->put_encoded("m", {kRows, kCols}, {Codec::I8Row, kRows, kCols}, codes));
    CHECK(read("m") == decoded(codes, kRows, kCols));
    CHECK((codes_of("m") == codes));
    REQUIRE_OK(source->permute_rows("m", {5, 3, 1, 0, 2, 4}));
    const std::vector<float> rows = read("m");
    CHECK(rows[0] == decoded(codes, kRows, kCols)[5 * kCols]);
    REQUIRE(form_of("m"));
    CHECK(decoded(codes_of("m"), kRows, kCols) == rows);
    // A part that begins and ends within rows.
    std::vector<float> part(kCols + 2);
    REQUIRE_OK(source->read_range(source->index_of("m").value(), 3 * sizeof(float),
                                  std::as_writable_bytes(std::span(part))));
    CHECK(part == std::vector<float>(rows.begin() + 3, rows.begin() + 5 + kCols));
    // Another source over it sees the same.
    const auto over = press::EditedSource::create(*source, scratch.path()).take();
    Bytes again;
    REQUIRE_OK(over->read_encoded(over->index_of("m").value(), again));
    CHECK((again == codes_of("m")));
    REQUIRE_OK(source->put("m", {kRows, kCols}, values));
    CHECK_FALSE(form_of("m"));
    CHECK(read("m") == values);
  }
  SECTION("transposed") {
    const Bytes codes = encode(kRows, kCols);  // of a tensor [kCols, kRows]
    REQUIRE_OK(source->put_encoded("t", {kCols, kRows}, {Codec::I8Row, kRows, kCols, true}, codes));
    const std::vector<float> packed = decoded(codes, kRows, kCols);
    const std::vector<float> own = read("t");
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t c = 0; c < kCols; ++c) {
        REQUIRE(own[c * kRows + r] == packed[r * kCols + c]);
      }
    }
    REQUIRE_OK(source->permute_rows("t", {4, 3, 2, 1, 0}));
    CHECK_FALSE(form_of("t"));  // rows of the tensor are columns of the codes
    CHECK(read("t")[0] == own[4 * kRows]);
  }
  SECTION("with ln0 applied, as long as ln0 stays") {
    const Bytes codes = encode(kRows, kCols);
    const press::EncodedForm form = {Codec::I8Row, kRows, kCols, false, true};
    REQUIRE_OK(source->put_encoded("emb.weight", {kRows, kCols}, form, codes));
    CHECK(read("emb.weight")[7] == (decoded(codes, kRows, kCols)[7] - 0.5f) / 2.0f);
    REQUIRE(form_of("emb.weight"));
    REQUIRE_OK(source->put("blocks.0.ln0.bias", {kCols}, std::vector<float>(kCols, 0.25f)));
    CHECK_FALSE(form_of("emb.weight"));
    CHECK(read("emb.weight")[7] == (decoded(codes, kRows, kCols)[7] - 0.5f) / 2.0f);
  }
  SECTION("of the right size alone") {
    const Status status =
        source->put_encoded("m", {kRows, kCols}, {Codec::I8Row, kRows, kCols}, Bytes(3));
    CHECK_FALSE(status.ok());
  }
}
