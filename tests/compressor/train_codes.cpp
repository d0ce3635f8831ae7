// Training of a model in the codes in which it will be packed: what is packed is what was trained,
// with factor pairs and several codecs; it resumes, and it recovers what rounding cost.
#include <ATen/core/grad_mode.h>
#include <yaml-cpp/yaml.h>

#include <fstream>
#include <map>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/pipeline/pipeline.h"
#include "compressor/stages/coded_model.h"
#include "compressor/train/block_trainer.h"
#include "formats/codec/lut.h"
#include "tests/compressor/press_testing.h"
#include "tests/compressor/pretend_device.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

constexpr const char* kQuantized =
    "name: t\nstages:\n"
    "  - low_rank: {method: svd, factor: 4, matrices: [att.key]}\n"
    "  - quantize: {codec: lut3, lora_codec: i8_row, min_numbers: 0, overrides: [{match: "
    "emb.weight, codec: f16}, {match: blocks.1.ffn.key.weight, codec: i8_row}]}\n";

// A model after the stages of a recipe, on the way to a training of its codes.
struct Coded {
  press::Checkpoint checkpoint;
  Identified model;
  press::Recipe recipe;
  std::optional<press::Work> work;
  Identified student;
  press::CodedWeights weights{press::TrainCodes::None};

  Coded(const std::string& arch, press::TrainCodes what, const ScratchFolder& scratch)
      : recipe(press::parse_recipe(kQuantized, "test", {}).take()) {
    press::SynthOptions synth;
    synth.model.arch = arch;
    synth.model.n_layer = 2;
    synth.model.n_embd = 64;
    synth.model.n_vocab = 256;
    synth.dtype = "f32";
    synth.output = scratch.file(arch + ".pth");
    synth.existing = OutputFile::Existing::Replace;
    REQUIRE_OK(press::write_synthetic(synth).status());
    checkpoint = press::open_checkpoint(synth.output).take();
    model = press::identify_checkpoint(*checkpoint.source).take();
    press::PipelineOptions options;
    options.scratch_folder = scratch.path().string();
    auto begun = press::run_stages(recipe, *checkpoint.source, model, options);
    REQUIRE_OK(begun.status());
    work.emplace(begun.take());
    student.config = work->plan.config;
    for (const press::PlannedTensor& tensor : work->plan.tensors) {
      student.tensors.push_back(tensor.binding);
    }
    auto found = press::coded_weights_of(*work, what);
    REQUIRE_OK(found.status());
    weights = found.take();
  }

  press::TrainJob job(const std::string& text, const std::string& folder, bool resume = false) {
    press::TrainOptions options = small_options(text);
    options.loss.head.distill = 1.0;
    return {options,
            7,
            {*work->source, student},
            press::ModelRef{*checkpoint.source, model},
            Vocabulary{},
            folder,
            resume,
            /*threads=*/0,
            {},
            &weights};
  }

  std::map<std::string, std::vector<std::byte>> all_codes(const press::Trained& trained) const {
    std::map<std::string, std::vector<std::byte>> codes;
    for (const press::Parameter& each : trained.network->parameters()) {
      if (weights.has(each.name)) {
        codes[each.name] = weights.codes(each.name).value();
      }
    }
    return codes;
  }
};

std::string write_repetitive(const ScratchFolder& scratch) {
  const std::string path = scratch.file("text.txt");
  std::ofstream(path) << repetitive_text(4000);
  return path;
}

at::Tensor tokens_of(const std::string& text) {
  return at::tensor(std::vector<int64_t>(text.begin(), text.end())).unsqueeze(0);
}

}  // namespace

TEST_CASE("What is packed is bit for bit what was trained", "[train_codes]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  const auto what = GENERATE(press::TrainCodes::Scales, press::TrainCodes::All);
  INFO(arch << " " << static_cast<int>(what));
  const ScratchFolder scratch;
  Coded coded(arch, what, scratch);
  const press::Trained trained =
      train_all(coded.job(write_repetitive(scratch), scratch.file("work")));
  for (const press::Parameter& each : trained.network->parameters()) {
    REQUIRE_OK(
        coded.weights.has(each.name)
            ? press::put_codes(*coded.work, coded.weights.codes(each.name).value(), each.name)
            : coded.work->replace(each.name, each.values.detach()));
  }
  REQUIRE_OK(press::end_work(*coded.work));
  press::PackOptions pack;
  pack.output = scratch.file("m.gguf");
  pack.model_name = "test";
  pack.tool_version = "test";
  REQUIRE_OK(press::pack(*coded.work->source, coded.work->plan, coded.recipe, pack));

  const auto packed = press::open_checkpoint(pack.output).take();
  const auto model = press::identify_checkpoint(*packed.source).take();
  const auto network = press::Network::load(*packed.source, model.config, nullptr).take();
  const at::Tensor tokens = tokens_of("abcdefghijabdc hij");
  const at::NoGradGuard no_grad;
  CHECK(network->logits(tokens).equal(trained.network->logits(tokens)));
}

TEST_CASE("A training of codes that was interrupted ends in the same codes", "[train_codes]") {
  // Where codes settle after 3 of 12 steps: before that, just then, and later.
  const auto [what, settle, stopped] = GENERATE(table<press::TrainCodes, double, uint64_t>({
      {press::TrainCodes::Scales, 0.0, 5},
      {press::TrainCodes::All, 0.0, 5},
      {press::TrainCodes::All, 0.75, 2},
      {press::TrainCodes::All, 0.75, 3},
      {press::TrainCodes::All, 0.75, 6},
  }));
  INFO(static_cast<int>(what) << ", " << settle << ", " << stopped);
  const ScratchFolder scratch;
  const std::string text = write_repetitive(scratch);
  Coded whole("v7", what, scratch);
  press::TrainJob all = whole.job(text, scratch.file("a"));
  all.options.settle = settle;
  const press::Trained undisturbed = train_all(all);
  Coded begun("v7", what, scratch);
  press::TrainJob job = begun.job(text, scratch.file("b"));
  job.options.settle = settle;
  job.callbacks = stop_after(stopped);
  CHECK_FALSE(train_all(job).is_finished);
  Coded resumed("v7", what, scratch);
  press::TrainJob rest = resumed.job(text, scratch.file("b"), true);
  rest.options.settle = settle;
  const press::Trained trained = train_all(rest);
  CHECK(same_parameters(undisturbed, trained));
  CHECK((whole.all_codes(undisturbed) == resumed.all_codes(trained)));

  // Other codes are another training.
  Coded other("v7", what, scratch);
  other.weights = press::CodedWeights(what);
  const auto group = one_process();
  CHECK_THAT(press::train(other.job(text, scratch.file("b"), true), *group).status().message(),
             Contains("other settings"));
}

TEST_CASE("Codes trained block by block settle, and end the same after an interruption",
          "[train_codes][blocks]") {
  const ScratchFolder scratch;
  const std::string text = write_repetitive(scratch);
  using Codes = std::map<std::string, std::vector<std::byte>>;
  const auto train = [&](const std::string& folder, uint64_t stop, bool resume) {
    Coded coded("v7", press::TrainCodes::All, scratch);
    Codes codes;
    press::BlockJob job{
        .options = small_options(text),
        .blocks = {.steps = 8, .learning_rate = 1e-3},
        .seed = 7,
        .teacher = {*coded.checkpoint.source, coded.model},
        .student = {*coded.work->source, coded.student},
        .vocabulary = Vocabulary{},
        .folder = scratch.file(folder),
        .resume = resume,
        .threads = 1,
        .callbacks = stop_after(stop),
        .progress = [](const std::string&, double) {},
        .put = [&](const std::string& name,
                   const at::Tensor& values) { return coded.work->replace(name, values); },
        .codes =
            [&](int64_t block) {
              return press::coded_weights_of(*coded.work, press::TrainCodes::All,
                                             fmt::format("blocks.{}.", block));
            },
        .put_codes =
            [&](const std::string& name, std::span<const std::byte> bytes) {
              codes[name] = {bytes.begin(), bytes.end()};
              return press::put_codes(*coded.work, bytes, name);
            }};
    job.options.settle = 0.5;
    const auto trained = press::train_blocks(job);
    REQUIRE_OK(trained.status());
    CHECK(trained.value().is_finished == (stop == UINT64_MAX));
    return codes;
  };
  const Codes undisturbed = train("whole", UINT64_MAX, false);
  CHECK(undisturbed.contains("blocks.1.att.value.weight"));
  // Codes settle after 4 of a block's 8 steps: before that, just then, and later.
  const uint64_t stop = GENERATE(2, 4, 6, 14);
  CAPTURE(stop);
  train("pieces", stop, false);
  CHECK((train("pieces", UINT64_MAX, true) == undisturbed));
}

TEST_CASE("Codes of a network on another device are trained as on the CPU but for rounding",
          "[train_codes][device]") {
  const std::string arch = GENERATE("v5.2", "v7");
  const auto what = GENERATE(press::TrainCodes::Scales, press::TrainCodes::All);
  INFO(arch << " " << static_cast<int>(what));
  const ScratchFolder scratch;
  const std::string text = write_repetitive(scratch);
  const auto trained_on = [&](Coded& coded, const at::Device& device) {
    press::TrainJob job = coded.job(text, scratch.file(device.str()));
    job.options.steps = 4;
    job.options.settle = what == press::TrainCodes::All ? 0.5 : 0;
    job.device = device;
    return train_all(job);
  };
  Coded here(arch, what, scratch);
  Coded there(arch, what, scratch);
  const press::Trained ours = trained_on(here, at::kCPU);
  const press::Trained theirs = trained_on(there, kPretendDevice);
  CHECK(theirs.network->parameters().front().values.device() == kPretendDevice);
  CHECK(theirs.last.loss == Approx(ours.last.loss).epsilon(1e-2));
  const auto value = [](const Coded& coded, const std::string& name) {
    const std::vector<std::byte> codes = coded.weights.codes(name).value();
    at::Tensor values = at::empty({64, 64}, at::kFloat);
    codec_traits(Codec::Lut3)
        .decode_rows(MatrixView::of(codes.data(), Codec::Lut3, 64, 64), 0, 64,
                     {values.data_ptr<float>(), size_t{64 * 64}});
    return values;
  };
  const std::string name = "blocks.1.att.value.weight";
  const at::Tensor x = value(here, name);
  CHECK((value(there, name) - x).norm().item<double>() < 0.1 * x.norm().item<double>());
}

TEST_CASE("Training of scales leaves the codes, training of all does not", "[train_codes]") {
  const ScratchFolder scratch;
  const std::string text = write_repetitive(scratch);
  for (const auto what : {press::TrainCodes::Scales, press::TrainCodes::All}) {
    Coded coded("v5.2", what, scratch);
    // Without text, codes are the nearest.
    const auto nearest = [&](const std::string& name, Codec codec) {
      const at::Tensor values =
          press::load_f32(*coded.work->source, coded.work->source->index_of(name).value()).value();
      const auto rows = static_cast<uint64_t>(values.size(0));
      const auto cols = static_cast<uint64_t>(values.size(1));
      std::vector<std::byte> codes(codec_traits(codec).encoded_bytes(rows, cols));
      REQUIRE_OK(
          codec_traits(codec).encode({values.data_ptr<float>(), rows * cols}, {rows, cols}, codes));
      return codes;
    };
    const std::string folder = scratch.file(fmt::format("{}", static_cast<int>(what)));
    const press::Trained trained = train_all(coded.job(text, folder));
    const auto parts = [](const std::vector<std::byte>& codes) {
      return lut_unpack(MatrixView::of(codes.data(), Codec::Lut3, 64, 64));
    };
    const std::string lut = "blocks.1.att.value.weight";
    const LutMatrix before = parts(nearest(lut, Codec::Lut3));
    const LutMatrix after = parts(coded.weights.codes(lut).value());
    CHECK((before.codes == after.codes) == (what == press::TrainCodes::Scales));
    CHECK(before.scales != after.scales);
    // Matrices in another codec change with the weights only.
    const std::string other = "blocks.1.ffn.key.weight";
    CHECK((nearest(other, Codec::I8Row) == coded.weights.codes(other).value()) ==
          (what == press::TrainCodes::Scales));
  }
}

TEST_CASE("Recipes that train codes: a smaller loss, with pairs, clusters and predictors",
          "[train_codes]") {
  const std::string codes = GENERATE("scales", "all");
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2");
  const std::string text = write_text(scratch, 6000);
  const std::string stages =
      "name: t\ncalibration: {samples: 16, length: 32}\nstages:\n"
      "  - low_rank: {method: svd, factor: 2, matrices: [att.key]}\n"
      "  - cluster_head: {clusters: 9, epochs: 1}\n"
      "  - ffn_predictor: {kinds: sign}\n"
      "  - quantize: {codec: lut2, lora_codec: i8_row}\n";
  Conversion how;
  how.vocab = "bytes";
  how.texts = {text};
  how.recipe = stages;
  REQUIRE_OK(convert(input, scratch.file("plain.gguf"), how));
  how.recipe += fmt::format(
      "  - train: {{codes: {}, data: [{}], steps: 30, batch: 4, length: 32, lr: 2e-3, warmup: 2, "
      "precision: fp32}}\n",
      codes, text);
  how.work = scratch.file("work");
  REQUIRE_OK(convert(input, scratch.file("trained.gguf"), how));
  REQUIRE_OK(convert(input, scratch.file("dense.gguf"), {"fp32", "bytes", {}}));

  // KL to the dense model, of values as packed.
  const auto loaded = [&](const std::string& name) {
    const auto file = press::open_checkpoint(scratch.file(name)).take();
    const auto model = press::identify_checkpoint(*file.source).take();
    return press::Network::load(*file.source, model.config, nullptr).take();
  };
  const at::NoGradGuard no_grad;
  const at::Tensor tokens = tokens_of("3 times 7 makes 21; 4 times 8 makes 32; 5 times");
  const at::Tensor dense = loaded("dense.gguf")->logits(tokens).log_softmax(1);
  const auto divergence = [&](const std::string& name) {
    const at::Tensor log_p = loaded(name)->logits(tokens).log_softmax(1);
    return (dense.exp() * (dense - log_p)).sum(1).mean().item<double>();
  };
  const double before = divergence("plain.gguf");
  CHECK(divergence("trained.gguf") < 0.8 * before);
  // The runtime runs it.
  REQUIRE_OK(edge::Model::open(scratch.file("trained.gguf")).status());
  // A packed file's codes are trained on as they are; without codes they would be rounded again.
  const auto rounded_again = [&](const std::string& train) {
    const auto recipe = press::parse_recipe("name: t\nstages:\n" + train, "t", {}).take();
    const auto file = press::open_checkpoint(scratch.file("plain.gguf")).take();
    const auto model = press::identify_checkpoint(*file.source).take();
    const auto plan = press::plan_stages(recipe, model).take();
    return press::rounded_again(recipe, *file.source, plan).size();
  };
  const std::string quantize = "  - quantize: {codec: lut2, lora_codec: i8_row}\n";
  CHECK(rounded_again(quantize + "  - train: {codes: all}\n") == rounded_again(quantize));
  CHECK(rounded_again("  - train\n" + quantize) > rounded_again(quantize));
}

TEST_CASE("Recipes that train codes: what is refused, and how", "[train_codes]") {
  const auto message = [](const std::string& stages, const std::vector<std::string>& set = {}) {
    return press::parse_recipe("name: t\nstages:\n" + stages, "t", set).status().message();
  };
  CHECK(message("  - train: {steps: 3}\n  - quantize: {codec: lut4}\n  - train: {codes: all}\n")
            .empty());
  CHECK_THAT(message("  - train: {codes: all}\n  - quantize: {codec: lut4}\n"),
             Contains("'quantize' comes after 'train'") && Contains("train with 'codes'"));
  CHECK_THAT(message("  - quantize\n  - train: {steps: 3}\n"),
             Contains("'train' comes after 'quantize'"));
  CHECK_THAT(message("  - quantize\n  - train: {codes: all}\n  - train: {codes: all}\n"),
             Contains("occurs twice"));
  CHECK_THAT(message("  - quantize: {codec: lut4}\n  - train: {codes: all, settle: 2}\n"),
             Contains("train.settle"));
  CHECK_THAT(message("  - quantize\n  - train: {codes: some}\n"),
             Contains("train.codes: expected scales or all, got 'some'"));
  CHECK_THAT(message("  - train: {steps: 3}\n  - quantize: {codec: lut4}\n", {"train.codes=all"}),
             Contains("'quantize' comes after 'train'"));
  // The recipe that a file keeps reads back as itself.
  const auto recipe = press::parse_recipe(
      "name: t\nstages:\n  - quantize: {codec: lut4}\n  - train: {codes: scales}\n", "t", {});
  REQUIRE_OK(recipe.status());
  const std::string yaml = recipe.value().effective_yaml();
  CHECK_THAT(yaml, Contains("codes: scales"));
  CHECK(press::parse_recipe(yaml, "t", {}).value().effective_yaml() == yaml);

  // Weights with codes move by less where nothing else is said.
  const auto rate = [](const std::string& train, const char* key) {
    const std::string stages = "  - quantize: {codec: lut4}\n  - train: " + train;
    const auto parsed = press::parse_recipe("name: t\nstages:\n" + stages, "t", {});
    REQUIRE_OK(parsed.status());
    return YAML::Load(parsed.value().effective_yaml())["stages"][1]["train"][key].as<double>();
  };
  CHECK(rate("{codes: all}", "lr") == 1e-4);
  CHECK(rate("{codes: all}", "lr_final") == 1e-5);
  CHECK(rate("{codes: all, lr: 3e-4}", "lr") == 3e-4);
  CHECK(rate("{codes: scales}", "lr") == 6e-4);

  const TinyModel tiny = make_tiny("v7");
  const auto int8 = press::parse_recipe(
      "name: t\nstages:\n  - quantize: {codec: i8_row}\n  - train: {codes: all}\n", "t", {});
  CHECK_THAT(press::plan_stages(int8.value(), tiny.model).status().message(),
             Contains("expected matrices with codes of two to six bits, found none"));
  // A preset is changed by one line.
  const auto changed =
      press::parse_recipe("preset: lut4\nstages:\n  - train: {codes: scales}\n", "t", {});
  REQUIRE_OK(changed.status());
  CHECK(std::string(changed.value().stages.back()->name()) == "train");
}
