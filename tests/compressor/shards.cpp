// Stage `shards`: narrower copies of the rows of matrices, whose bytes are those of the codec,
// whose pieces cover all rows, and which change nothing of the model at full width.
#include <ATen/Parallel.h>

#include <cmath>
#include <map>
#include <numeric>

#include "compressor/checkpoint/open.h"
#include "compressor/pipeline/pipeline.h"
#include "compressor/selectors/choice.h"
#include "compressor/stages/shard_losses.h"
#include "compressor/stages/shard_values.h"
#include "formats/base/checksum.h"
#include "formats/container/packed_keys.h"
#include "formats/container/shard_index.h"
#include "tests/compressor/demo_model.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

constexpr const char* kPlain =
    "name: t\ncalibration: {samples: 16, length: 64}\nstages:\n"
    "  - quantize: {codec: i8_row, lora_codec: i8_row, min_numbers: 0}\n";

std::string with_shards(const std::string& settings) {
  return std::string(kPlain) + "  - shards: {piece_kb: 8, " + settings + "}\n";
}

struct Packed {
  std::vector<std::byte> file;
  std::vector<PackedTensor> tensors;
  std::vector<ShardedMatrix> shards;

  std::span<const std::byte> bytes(const PackedTensor& tensor) const {
    return std::span(file).subspan(tensor.offset, tensor.n_bytes);
  }
  const PackedTensor* find(const std::string& name) const {
    for (const PackedTensor& tensor : tensors) {
      if (tensor.name == name) {
        return &tensor;
      }
    }
    return nullptr;
  }
  // The units of the rows of a piece at a width.
  std::span<const std::byte> units(const ShardPiece& piece, const ShardVersion& version) const {
    const PackedTensor& tensor = tensors[version.tensor];
    const CodecTraits& codec = codec_traits(tensor.codec);
    const uint64_t unit = codec.unit_bytes(tensor.cols);
    return bytes(tensor).subspan(
        codec.shared_bytes(tensor.cols) + version.first_row / codec.unit_rows * unit,
        (piece.n_rows + codec.unit_rows - 1) / codec.unit_rows * unit);
  }
};

Packed read_packed(const std::string& path) {
  Packed packed;
  packed.file = read_bytes(path);
  const auto parsed = GgufFile::parse(packed.file, path);
  REQUIRE_OK(parsed.status());
  auto tensors = packed_tensors(parsed.value());
  REQUIRE_OK(tensors.status());
  packed.tensors = tensors.take();
  auto shards = shard_index(parsed.value().metadata(), packed.tensors);
  REQUIRE_OK(shards.status());
  packed.shards = shards.take();
  return packed;
}

Packed pack(const ScratchFolder& scratch, const std::string& input, const std::string& recipe,
            const std::string& name, const std::string& text) {
  Conversion how;
  how.recipe = recipe;
  how.vocab = "bytes";
  how.texts = {text};
  const std::string output = scratch.file(name);
  const Status status = convert(input, output, how);
  INFO(status.message());
  REQUIRE_OK(status);
  return read_packed(output);
}

// The tensor of the checkpoint, as its matrix lies in the packed file.
std::vector<float> values_as_packed(const std::string& input, const PackedTensor& tensor) {
  const auto checkpoint = press::open_checkpoint(input).take();
  const TensorSource& source = *checkpoint.source;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    const TensorInfo& info = source.tensors()[i];
    if (info.name == tensor.name) {
      std::vector<std::byte> bytes;
      REQUIRE_OK(source.read(i, bytes));
      std::vector<float> values(info.n_elements());
      decode_to_f32(info.dtype, bytes, values);
      if (tensor.name.find("ffn.value") == std::string::npos) {
        return values;
      }
      std::vector<float> turned(values.size());
      for (uint64_t r = 0; r < tensor.rows; ++r) {
        for (uint64_t c = 0; c < tensor.cols; ++c) {
          turned[r * tensor.cols + c] = values[c * tensor.rows + r];
        }
      }
      return turned;
    }
  }
  FAIL("no tensor " << tensor.name);
  return {};
}

// Everything that the index promises about a file.
void check_index(const Packed& packed) {
  for (const ShardedMatrix& matrix : packed.shards) {
    const PackedTensor& full = packed.tensors[matrix.tensor];
    INFO(full.name);
    uint64_t next = 0;
    for (const ShardPiece& piece : matrix.pieces) {
      REQUIRE(piece.first_row == next);
      next += piece.n_rows;
      double bits = 100;
      for (const ShardVersion& version : piece.versions) {
        if (version.tensor == ShardVersion::kNothing) {
          continue;
        }
        const PackedTensor& tensor = packed.tensors[version.tensor];
        CHECK(codec_traits(tensor.codec).bits < bits);
        bits = codec_traits(tensor.codec).bits;
        CHECK(xxh64(packed.units(piece, version)) == version.xxh64);
        CHECK(tensor.xxh64 == xxh64(packed.bytes(tensor)));
      }
    }
    CHECK(next == full.rows);
  }
}

double sum_of_losses(const Packed& packed) {
  double sum = 0;
  for (const ShardedMatrix& matrix : packed.shards) {
    for (const ShardPiece& piece : matrix.pieces) {
      for (const ShardVersion& version : piece.versions) {
        sum += version.loss;
      }
    }
  }
  return sum;
}

// A model whose weights are in place for stage shards, and what the stage is given.
struct Subject {
  press::Checkpoint checkpoint;
  Identified model;
  press::Recipe recipe;
  press::PipelineOptions options;
  std::string said;

  Subject(const ScratchFolder& scratch, const std::string& input, const std::string& yaml,
          const std::string& text, const std::optional<Vocabulary>& vocabulary = Vocabulary{}) {
    auto opened = press::open_checkpoint(input);
    REQUIRE_OK(opened.status());
    checkpoint = std::move(opened.value());
    model = press::identify_checkpoint(*checkpoint.source).take();
    auto parsed = press::parse_recipe(yaml, "test", {});
    REQUIRE_OK(parsed.status());
    recipe = parsed.take();
    press::CalibrationOptions calibration = recipe.calibration;
    calibration.texts = {text};
    auto sampled = press::sample_texts(calibration, vocabulary, model.config);
    REQUIRE_OK(sampled.status());
    options.calibration = sampled.take();
    options.scratch_folder = scratch.file(".");
    options.report = [this](const std::string& line) { said += line + "\n"; };
  }
};

}  // namespace

TEST_CASE("Narrower copies have the bytes of their codec, and the rest is the plain file",
          "[shards]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  INFO(arch);
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, arch);
  const std::string text = write_text(scratch, 4000);
  const Packed plain = pack(scratch, input, kPlain, "plain.gguf", text);
  const Packed packed =
      pack(scratch, input,
           with_shards("widths: [lut3, lut5, none], points: [0.3, 0.6], importance: random, "
                       "quantizer: nearest"),
           "elastic.gguf", text);
  check_index(packed);
  REQUIRE(packed.shards.size() > 8);
  const size_t n_complete = n_complete_tensors(packed.tensors);
  REQUIRE(n_complete == plain.tensors.size());
  for (size_t i = 0; i < n_complete; ++i) {
    INFO(plain.tensors[i].name);
    REQUIRE(packed.tensors[i].name == plain.tensors[i].name);
    const auto a = packed.bytes(packed.tensors[i]);
    const auto b = plain.bytes(plain.tensors[i]);
    CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
  size_t n_copies = 0;
  size_t n_left_out = 0;
  size_t n_pieces = 0;
  for (const ShardedMatrix& matrix : packed.shards) {
    const PackedTensor& full = packed.tensors[matrix.tensor];
    INFO(full.name);
    const std::vector<float> values = values_as_packed(input, full);
    n_pieces += matrix.pieces.size();
    for (const ShardPiece& piece : matrix.pieces) {
      for (const ShardVersion& version : std::span(piece.versions).subspan(1)) {
        if (version.tensor == ShardVersion::kNothing) {
          ++n_left_out;
          continue;
        }
        ++n_copies;
        const CodecTraits& codec = codec_traits(packed.tensors[version.tensor].codec);
        std::vector<std::byte> whole(codec.encoded_bytes(full.rows, full.cols));
        REQUIRE_OK(codec.encode(values, {full.rows, full.cols}, whole));
        const uint64_t unit = codec.unit_bytes(full.cols);
        const auto expected = std::span(whole).subspan(
            codec.shared_bytes(full.cols) + piece.first_row / codec.unit_rows * unit,
            packed.units(piece, version).size());
        const auto found = packed.units(piece, version);
        CHECK(std::equal(expected.begin(), expected.end(), found.begin(), found.end()));
      }
    }
  }
  // The points use some widths of some pieces, and all kinds of them.
  CHECK(n_copies > 0);
  CHECK(n_copies < 2 * n_pieces);
  CHECK(n_left_out > 0);
  CHECK(n_pieces > packed.shards.size());
}

TEST_CASE("A model with narrower copies computes what the plain one computes", "[shards]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v6");
  const std::string text = write_text(scratch, 4000);
  Conversion how;
  how.vocab = "bytes";
  how.texts = {text};
  how.recipe = kPlain;
  const auto plain = convert_and_open(input, scratch.file("plain.gguf"), how);
  how.recipe = with_shards("widths: [lut4], importance: random");
  const auto elastic = convert_and_open(input, scratch.file("elastic.gguf"), how);
  const std::vector<int32_t> tokens = {1, 50, 100, 7, 200};
  CHECK(all_logits(plain, tokens, 1) == all_logits(elastic, tokens, 1));

  // And read as a checkpoint it is the plain model.
  const auto one = press::open_checkpoint(scratch.file("plain.gguf")).take();
  const auto other = press::open_checkpoint(scratch.file("elastic.gguf")).take();
  REQUIRE(one.source->tensors().size() == other.source->tensors().size());
  for (size_t i = 0; i < one.source->tensors().size(); ++i) {
    std::vector<std::byte> a;
    std::vector<std::byte> b;
    REQUIRE(one.source->tensors()[i].name == other.source->tensors()[i].name);
    REQUIRE_OK(one.source->read(i, a));
    REQUIRE_OK(other.source->read(i, b));
    CHECK((a == b));
  }
}

TEST_CASE("Narrower copies do not depend on the number of threads", "[shards]") {
  const std::string importance = GENERATE("measured", "estimated");
  const std::string arch = importance == "measured" ? "v5.2" : "v7";
  INFO(importance);
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, arch);
  const std::string text = write_text(scratch, 4000);
  const std::string recipe =
      with_shards("widths: [lut4, lut3], points: [0.5, 0.7], importance: " + importance);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const Packed one = pack(scratch, input, recipe, "one.gguf", text);
  at::set_num_threads(3);
  const Packed three = pack(scratch, input, recipe, "three.gguf", text);
  at::set_num_threads(before);
  check_index(one);
  CHECK((one.file == three.file));
  CHECK(sum_of_losses(one) > 0);
}

TEST_CASE("Codes that are learnt from text lose less than rounded ones", "[shards]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2");
  const std::string text = write_text(scratch, 4000);
  const auto losses = [&](const std::string& quantizer) {
    const Packed packed =
        pack(scratch, input,
             with_shards("widths: [lut3], importance: measured, quantizer: " + quantizer),
             quantizer + ".gguf", text);
    return sum_of_losses(packed);
  };
  CHECK(losses("refined") < 0.8 * losses("nearest"));
}

TEST_CASE("Factor pairs have narrower copies, matrices with predictors have none", "[shards]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2", 256);
  const std::string text = write_text(scratch, 8000);
  const std::string recipe =
      "name: t\ncalibration: {samples: 16, length: 64}\nstages:\n"
      "  - low_rank: {method: whitened, factor: 4}\n"
      "  - cluster_head: {clusters: 8}\n"
      "  - ffn_predictor: {kinds: sign}\n"
      "  - quantize: {codec: i8_row, lora_codec: i8_row, min_numbers: 0}\n"
      "  - shards: {piece_kb: 8, widths: [lut4], importance: estimated}\n";
  const Packed packed = pack(scratch, input, recipe, "lite.gguf", text);
  check_index(packed);
  std::vector<std::string> names;
  for (const ShardedMatrix& matrix : packed.shards) {
    names.push_back(packed.tensors[matrix.tensor].name);
    for (const ShardPiece& piece : matrix.pieces) {
      REQUIRE(piece.versions.size() == 2);
      CHECK(piece.versions[1].loss > 0);
    }
  }
  const auto has = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  CHECK(has("blocks.1.att.key1.weight"));
  CHECK(has("blocks.1.att.key2.weight"));
  CHECK_FALSE(has("blocks.1.ffn.key.weight"));
  CHECK_FALSE(has("blocks.1.ffn.value.weight"));
  CHECK_FALSE(has("head.weight"));
}

TEST_CASE("Estimated losses order pieces as measured ones do, and losses add up",
          "[shards][demo]") {
  const ScratchFolder scratch;
  const DemoModel demo = demo_model(scratch, 300, 1);
  Subject subject(scratch, demo.checkpoint,
                  "name: t\ncalibration: {samples: 16, length: 128}\nstages:\n"
                  "  - quantize: {codec: i8_row, lora_codec: i8_row, min_numbers: 4096}\n"
                  "  - shards: {widths: [lut4, lut3], points: [0.45], importance: measured}\n",
                  demo.train, read_vocabulary_file(demo.vocabulary).take());
  auto done =
      press::run_stages(subject.recipe, *subject.checkpoint.source, subject.model, subject.options);
  REQUIRE_OK(done.status());
  INFO(subject.said);
  const auto number_after = [&](const std::string& words) {
    const size_t at = subject.said.find(words);
    REQUIRE(at != std::string::npos);
    return std::stod(subject.said.substr(at + words.size()));
  };
  // A short text, on which single tokens decide much of what is measured.
  CHECK(number_after("with measured losses ") > 0.6);
  CHECK(number_after("with the losses in use ") > 0.6);
  const double sum = number_after("losses add up to ");
  const double together = number_after("together they are ");
  CHECK(together > 0.4 * sum);
  CHECK(together < 2.5 * sum);
}

TEST_CASE("A conversion goes on after stage shards, and before it", "[shards][kept]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2");
  const std::string text = write_text(scratch, 4000);
  const std::string yaml =
      "name: t\ncalibration: {samples: 16, length: 64}\nstages:\n"
      "  - quantize: {codec: lut5, lora_codec: i8_row, min_numbers: 0}\n"
      "  - shards: {piece_kb: 8, widths: [lut4, lut3], points: [0.7], importance: estimated}\n";
  const Packed undisturbed = pack(scratch, input, yaml, "undisturbed.gguf", text);
  Subject subject(scratch, input, yaml, text);
  const auto note = [](const std::string&) {};
  const auto identity = press::identity_of(subject.recipe, {"a"});
  const size_t stops_after = GENERATE(1, 2);
  {
    auto kept = press::KeptStages::open(scratch.file("work"), identity, false, note);
    REQUIRE_OK(kept.status());
    subject.options.kept = kept.value().get();
    auto work = press::begin_work(*subject.checkpoint.source, subject.model, subject.recipe.seed,
                                  subject.options);
    REQUIRE_OK(work.status());
    for (size_t i = 0; i < stops_after; ++i) {
      REQUIRE_OK(press::run_stage(*subject.recipe.stages[i], work.value()));
      REQUIRE_OK(kept.value()->keep(i + 1, work.value()));
    }
  }
  auto kept = press::KeptStages::open(scratch.file("work"), identity, true, note);
  REQUIRE_OK(kept.status());
  REQUIRE(kept.value()->done() == stops_after);
  subject.options.kept = kept.value().get();
  auto work =
      press::run_stages(subject.recipe, *subject.checkpoint.source, subject.model, subject.options);
  REQUIRE_OK(work.status());
  press::PackOptions pack_options;
  pack_options.output = scratch.file("resumed.gguf");
  pack_options.model_name = "test";
  pack_options.tool_version = "test";
  pack_options.vocabulary = Vocabulary{};
  REQUIRE_OK(press::pack(*work.value().source, work.value().plan, subject.recipe, pack_options));
  CHECK((read_bytes(scratch.file("resumed.gguf")) == undisturbed.file));
}

TEST_CASE("The size of a file with narrower copies is predicted", "[shards]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2");
  const std::string text = write_text(scratch, 4000);
  const std::string yaml = with_shards("widths: [lut4, lut3], importance: random");
  const Packed packed = pack(scratch, input, yaml, "elastic.gguf", text);
  Subject subject(scratch, input, yaml, text);
  const auto plan = press::plan_stages(subject.recipe, subject.model);
  REQUIRE_OK(plan.status());
  press::PackOptions options;
  options.model_name = "test";
  options.tool_version = "test";
  options.vocabulary = Vocabulary{};
  const auto size =
      press::PackedSize(*subject.checkpoint.source, options).of(plan.value(), subject.recipe);
  REQUIRE_OK(size.status());
  CHECK(size.value() == packed.file.size());
  uint64_t copies = 0;
  for (size_t i = n_complete_tensors(packed.tensors); i < packed.tensors.size(); ++i) {
    copies += packed.tensors[i].n_bytes;
  }
  CHECK(press::copy_bytes(plan.value()) == copies);
}
