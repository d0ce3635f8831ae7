// Training block by block: it brings blocks nearer to the teacher's, goes on after an interruption
// in the same bits, in one part or in several, and refuses what is damaged by name.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <filesystem>

#include "compressor/checkpoint/edited_source.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/block_result.h"
#include "compressor/train/block_trainer.h"
#include "tests/compressor/press_testing.h"
#include "tests/compressor/pretend_device.h"
#include "tests/compressor/train_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

constexpr int64_t kLayers = 3;
constexpr uint64_t kSteps = 6;
constexpr const char* kPairs =
    "name: t\ncalibration: {samples: 16, length: 64}\nstages:\n"
    "  - low_rank: {method: svd, factor: 8}\n";

// A teacher, and a student that is the teacher with noise.
struct Pair {
  ScratchFolder scratch;
  TinyModel teacher, start;
  std::unique_ptr<press::EditedSource> student;
  std::string text;

  explicit Pair(const std::string& arch) : teacher(make_tiny(arch, 1)), start(make_tiny(arch, 1)) {
    text = scratch.file("t.txt");
    write_text(text, repetitive_text(3000));
    // Initial models have matrices of zeros, whose blocks do nothing.
    teacher = with_noise(teacher, 0.1F, 3);
    start = with_noise(teacher, 0.05F, 4);
    renew();
  }

  static TinyModel with_noise(const TinyModel& model, float size, uint64_t seed) {
    TinyModel copy;
    copy.source = std::make_unique<press::MemorySource>("noise");
    copy.model = model.model;
    for (size_t i = 0; i < model.source->tensors().size(); ++i) {
      const TensorInfo& info = model.source->tensors()[i];
      auto values = press::load_f32(*model.source, i);
      REQUIRE_OK(values.status());
      float* const data = values.value().data_ptr<float>();
      const bool is_matrix = info.name.ends_with("weight") && info.shape.size() > 1;
      for (uint64_t j = 0; is_matrix && j < info.n_elements(); ++j) {
        data[j] += size * noise(seed + i, j);
      }
      copy.source->add(info.name, info.shape, {data, data + info.n_elements()});
    }
    return copy;
  }

  // The student as it was at first.
  void renew() {
    auto source = press::EditedSource::create(*start.source, scratch.path().string());
    REQUIRE_OK(source.status());
    student = source.take();
  }

  press::BlockJob job(const std::string& folder, const std::string& from = "student") {
    press::BlockJob job{.options = small_options(text),
                        .blocks = {.steps = kSteps, .learning_rate = 3e-3, .from = from},
                        .seed = 7,
                        .teacher = teacher.ref(),
                        .student = {*student, start.model},
                        .vocabulary = Vocabulary{},
                        .folder = scratch.file(folder),
                        .threads = 1,
                        .progress = [](const std::string&, double) {},
                        .put =
                            [this](const std::string& name, const at::Tensor& values) {
                              const at::Tensor own = values.contiguous();
                              const auto index = student->index_of(name);
                              RWKV_TRY(index.status());
                              return student->put(
                                  name, student->tensors()[index.value()].shape,
                                  {own.data_ptr<float>(), static_cast<size_t>(own.numel())});
                            }};
    job.options.save_every = 2;
    job.options.loss.head.precision = press::Precision::F32;
    return job;
  }
};

// The same training of a student as it was at first.
press::BlockJob renewed(Pair& pair, const press::BlockJob& job) {
  pair.renew();
  press::BlockJob again = pair.job("", job.blocks.from);
  again.options = job.options;
  again.blocks = job.blocks;
  again.folder = job.folder;
  again.resume = job.resume;
  return again;
}

press::BlocksTrained run(const press::BlockJob& job) {
  auto trained = press::train_blocks(job);
  REQUIRE_OK(trained.status());
  return trained.take();
}

bool same_blocks(const std::string& a, const std::string& b) {
  bool is_same = true;
  for (int64_t i = 0; i < kLayers; ++i) {
    is_same = is_same && read_bytes(press::block_path(a, i)) == read_bytes(press::block_path(b, i));
  }
  return is_same;
}

// Stops, as Ctrl-C does, after each of these steps of all blocks together, and goes on.
void run_in_pieces(Pair& pair, const press::BlockJob& job, const std::vector<uint64_t>& stops) {
  bool resumes = false;
  for (const uint64_t stop : stops) {
    press::BlockJob piece = renewed(pair, job);
    piece.resume = resumes;
    piece.callbacks = stop_after(stop);
    const press::BlocksTrained trained = run(piece);
    CHECK_FALSE(trained.is_finished);
    CHECK_THAT(trained.where, Contains("block"));
    resumes = true;
  }
  press::BlockJob last = renewed(pair, job);
  last.resume = true;
  CHECK(run(last).is_finished);
}

std::string only_file(const std::string& folder, const std::string& begins) {
  std::string found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(begins)) {
      found = entry.path().string();
    }
  }
  REQUIRE_FALSE(found.empty());
  return found;
}

}  // namespace

TEST_CASE("Blocks come nearer to the teacher's, in outputs and states", "[blocks]") {
  const std::string arch = GENERATE(from_range(kTrainedArchs));
  const std::string from = GENERATE("student", "teacher");
  CAPTURE(arch, from);
  Pair pair(arch);
  press::BlockJob job = pair.job("w", from);
  job.blocks.steps = 40;
  job.blocks.state_weight = 0.3;
  std::vector<press::StepReport> reports;
  job.callbacks = stop_after(UINT64_MAX, &reports);
  const press::BlocksTrained trained = run(job);
  CHECK(trained.is_finished);
  CHECK(trained.n_trained == kLayers);
  CHECK(trained.n_missing == 0);
  CHECK(trained.after.output < 0.7 * trained.before.output);
  CHECK(trained.after.state < trained.before.state);
  REQUIRE(reports.size() == 40 * kLayers);
  // Within each block.
  for (size_t i = 0; i < kLayers; ++i) {
    CHECK(reports[40 * i + 39].row.loss < reports[40 * i].row.loss);
  }
  // Nothing large stays, and what was trained is in the student.
  CHECK(fs::exists(press::block_path(job.folder, kLayers - 1)));
  for (const auto& entry : fs::recursive_directory_iterator(job.folder)) {
    const std::string name = entry.path().filename().string();
    CHECK_FALSE((name.starts_with("teacher-") || name.starts_with("student-") ||
                 name.starts_with("step-")));
  }
  const std::string key = "blocks.1.ffn.key.weight";
  auto now = press::load_named(*pair.student, key);
  auto then = press::load_named(*pair.start.source, key);
  CHECK_FALSE(now.value().equal(then.value()));
  CHECK(press::load_named(*pair.student, "head.weight")
            .value()
            .equal(press::load_named(*pair.start.source, "head.weight").value()));
}

TEST_CASE("Blocks train on another device as on the CPU", "[blocks][device]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  CAPTURE(arch);
  Pair pair(arch);
  const press::BlocksTrained here = run(pair.job("here"));
  pair.renew();
  press::BlockJob elsewhere = pair.job("there");
  elsewhere.device = kPretendDevice;
  const press::BlocksTrained there = run(elsewhere);
  CHECK(there.n_trained == kLayers);
  CHECK(there.before.output == Approx(here.before.output).epsilon(1e-3));
  CHECK(there.before.state == Approx(here.before.state).epsilon(1e-3));
  CHECK(there.after.output == Approx(here.after.output).epsilon(0.02));
  CHECK(there.after.state == Approx(here.after.state).epsilon(0.02));
}

TEST_CASE("A training by blocks that is stopped goes on in the same bits", "[blocks]") {
  const std::string arch = GENERATE("v5.2", "v7");
  const std::string from = GENERATE("student", "teacher");
  CAPTURE(arch, from);
  Pair pair(arch);
  const press::BlockJob job = pair.job("whole", from);
  run(job);
  press::BlockJob again = pair.job("pieces", from);
  // Between snapshots, at one, at the end of a block, in the last block.
  run_in_pieces(pair, again, {1, 4, kSteps + 1, kSteps + 3});
  CHECK(same_blocks(job.folder, again.folder));
}

TEST_CASE("Parts of the blocks together are the whole", "[blocks]") {
  const std::string arch = GENERATE("v5.2", "v7");
  Pair pair(arch);
  const press::BlockJob whole = pair.job("whole", "teacher");
  run(whole);
  std::vector<at::Tensor> expected;
  for (const TensorInfo& info : pair.student->tensors()) {
    expected.push_back(press::load_named(*pair.student, info.name).value());
  }
  for (const uint64_t part : {uint64_t{1}, uint64_t{0}}) {
    pair.renew();
    press::BlockJob job = pair.job("parts", "teacher");
    job.shard = press::BlockShard{part, 2};
    const press::BlocksTrained trained = run(job);
    CHECK(trained.is_finished);
    CHECK(trained.n_missing == (part == 1 ? 2 : 0));
  }
  pair.renew();
  press::BlockJob collected = pair.job("parts", "teacher");
  CHECK(press::train_blocks(collected).status().code() == Code::Usage);
  collected.resume = true;
  collected.callbacks = stop_after(0);  // would end it if it trained anything
  CHECK(run(collected).is_finished);
  CHECK(same_blocks(whole.folder, collected.folder));
  size_t i = 0;
  for (const TensorInfo& info : pair.student->tensors()) {
    CAPTURE(info.name);
    CHECK(press::load_named(*pair.student, info.name).value().equal(expected[i++]));
  }
}

TEST_CASE("Only chosen tensors move, and blocks without any are left out", "[blocks]") {
  Pair pair("v5.2");
  press::BlockJob job = pair.job("w");
  job.options.parameters = {"blocks.1.att.key.weight", "blocks.1.ln2.bias"};
  const press::BlocksTrained trained = run(job);
  CHECK(trained.n_trained == 1);
  CHECK_FALSE(fs::exists(press::block_path(job.folder, 0)));
  for (const TensorInfo& info : pair.student->tensors()) {
    CAPTURE(info.name);
    const bool is_same = press::load_named(*pair.student, info.name)
                             .value()
                             .equal(press::load_named(*pair.start.source, info.name).value());
    CHECK(is_same == (std::count(job.options.parameters.begin(), job.options.parameters.end(),
                                 info.name) == 0));
  }
}

TEST_CASE("What a training by blocks left is refused by name if it is damaged or another's",
          "[blocks][security]") {
  Pair pair("v5.2");
  press::BlockJob job = pair.job("w");
  job.callbacks = stop_after(kSteps + 1);
  run(job);
  job.resume = true;
  for (const char* begins : {"teacher-0002", "student-0001", "block-0000"}) {
    const std::string path = only_file(job.folder, begins);
    const auto whole = read_bytes(path);
    for (const bool is_cut : {false, true}) {
      auto damaged = whole;
      damaged[whole.size() / 2] ^= std::byte{1};
      write_bytes(path, std::span(damaged).first(is_cut ? whole.size() / 2 : whole.size()));
      const Status status = press::train_blocks(renewed(pair, job)).status();
      CAPTURE(begins, is_cut, status.message());
      CHECK(status.code() == Code::BadInput);
      CHECK_THAT(status.message(), Contains(path));
      CHECK_THAT(status.message(), Contains("remove it"));
    }
    write_bytes(path, whole);
  }
  press::BlockJob other = renewed(pair, job);
  other.blocks.learning_rate = 1e-3;
  const Status status = press::train_blocks(other).status();
  CHECK(status.code() == Code::Usage);
  CHECK_THAT(status.message(), Contains("block_lr"));
  // Activations that are gone are computed again.
  fs::remove(only_file(job.folder, "teacher-0002"));
  CHECK(run(renewed(pair, job)).is_finished);
  Pair undisturbed("v5.2");
  const press::BlockJob expected = undisturbed.job("w");
  run(expected);
  CHECK(same_blocks(job.folder, expected.folder));
}

TEST_CASE("Recipes train by blocks: pairs, codes, then the whole", "[blocks][recovery]") {
  const ScratchFolder scratch;
  const std::string arch = GENERATE("v5.2", "v7");
  CAPTURE(arch);
  const std::string input = write_synth(scratch, arch, 64);
  const std::string text = write_text(scratch, 9000);
  int n = 0;
  const auto with = [&](const std::string& stages) {
    Conversion how;
    how.recipe = std::string(kPairs) + stages;
    how.vocab = "bytes";
    how.texts = {text};
    how.train_data = {text};
    how.work = scratch.file(fmt::format("work{}", ++n));
    return how;
  };
  const std::vector<int32_t> prompt = [] {
    std::vector<int32_t> tokens;
    for (const char c : std::string("3 times 4 makes 12; 5 times 5 makes 25; 16 times 2 makes ")) {
      tokens.push_back(static_cast<unsigned char>(c));
    }
    return tokens;
  }();
  const auto logits = [&](const Conversion& how) {
    return all_logits(convert_and_open(input, scratch.file("m.gguf"), how), prompt, 16);
  };
  const auto distance = [](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      sum += static_cast<double>(a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
    }
    return sum;
  };
  Conversion plain = with("");
  plain.recipe = "name: t\nstages: []\n";
  plain.train_data = {};
  const std::vector<float> dense = logits(plain);
  const std::string common = "batch: 4, length: 64, warmup: 2, save_every: 20";
  const double without = distance(dense, logits(with("")));
  const double blocks = distance(
      dense,
      logits(with("  - train: {mode: blocks, block_steps: 60, steps: 0, " + common + "}\n")));
  CHECK(blocks < 0.8 * without);
  const double both =
      distance(dense, logits(with("  - train: {mode: blocks, block_steps: 60, steps: 20, lr: 1e-3, "
                                  "parameters: [factors], teacher_top_k: 32, " +
                                  common + "}\n")));
  CHECK(both < 0.8 * without);

  const std::string quantize = "  - quantize: {codec: lut3, lora_codec: i8_row, min_numbers: 0}\n";
  const double rounded = distance(dense, logits(with(quantize)));
  for (const char* codes : {"scales", "all"}) {
    const double trained = distance(
        dense,
        logits(with(quantize + fmt::format("  - train: {{codes: {}, mode: blocks, "
                                           "block_steps: 60, block_lr: 1e-3, steps: 0, {}}}\n",
                                           codes, common))));
    CAPTURE(codes);
    CHECK(trained < 0.9 * rounded);
  }

  // Parts write no output; the collecting run does, and packs what an undivided one packs.
  const std::string apart =
      "  - train: {mode: blocks, from: teacher, block_steps: 5, steps: 3, " + common + "}\n";
  Conversion whole = with(apart);
  REQUIRE_OK(convert(input, scratch.file("whole.gguf"), whole));
  Conversion part = with(apart);
  for (const uint64_t i : {uint64_t{0}, uint64_t{1}}) {
    part.shard = press::BlockShard{i, 2};
    REQUIRE_OK(convert(input, scratch.file("parts.gguf"), part));
    CHECK_FALSE(fs::exists(scratch.file("parts.gguf")));
  }
  part.shard.reset();
  part.resume = true;
  REQUIRE_OK(convert(input, scratch.file("parts.gguf"), part));
  CHECK(read_bytes(scratch.file("whole.gguf")) == read_bytes(scratch.file("parts.gguf")));
}

TEST_CASE("Settings of a training by blocks that cannot be are refused", "[blocks][recovery]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2", 64);
  const std::string text = write_text(scratch, 9000);
  for (const char* settings :
       {"mode: block", "mode: blocks, from: nobody", "mode: blocks, block_steps: 0", "steps: 0",
        "mode: blocks, state_weight: -1", "teacher_top_k: 4, block_match: 1"}) {
    Conversion how;
    how.recipe = fmt::format("name: t\nstages:\n  - train: {{{}}}\n", settings);
    how.vocab = "bytes";
    how.train_data = {text};
    how.work = scratch.file("w");
    CAPTURE(settings);
    CHECK(convert(input, scratch.file("m.gguf"), how).code() == Code::Usage);
  }
  for (const char* text_of_part : {"", "1", "0/2", "3/2", "1/", "/2", "1/2/3", "-1/2", "1/0"}) {
    CAPTURE(text_of_part);
    CHECK(press::parse_block_shard(text_of_part).status().code() == Code::Usage);
  }
  CHECK(press::parse_block_shard("2/8").value().index == 1);
  Conversion how;
  how.recipe = "name: t\nstages:\n  - train: {mode: blocks, steps: 0}\n";
  how.vocab = "bytes";
  how.train_data = {text};
  how.work = scratch.file("w");
  how.shard = press::BlockShard{0, 2};
  CHECK(convert(input, scratch.file("m.gguf"), how).code() == Code::Usage);
}
