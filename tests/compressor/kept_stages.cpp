// The finished stages of a conversion on disk: what of them is believed, and what comes back.
#include "compressor/pipeline/kept_stages.h"

#include <filesystem>

#include "compressor/checkpoint/open.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/pipeline/pipeline.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv::test;
using namespace rwkv;
namespace fs = std::filesystem;

namespace {

// A conversion whose stages are kept in a folder, up to the end of the last.
struct Subject {
  explicit Subject(const ScratchFolder& scratch) : folder(scratch.file("work")) {
    const std::string path = write_synth(scratch, "v5.2");
    auto opened = press::open_checkpoint(path);
    REQUIRE_OK(opened.status());
    checkpoint = std::move(opened.value());
    auto found = press::identify_checkpoint(*checkpoint.source);
    REQUIRE_OK(found.status());
    model = found.value();
    auto parsed = press::parse_recipe(
        "stages:\n  - low_rank: {method: svd, factor: 4}\n  - quantize: {codec: i8_row}\n", "test",
        {});
    REQUIRE_OK(parsed.status());
    recipe = parsed.take();
  }
  Result<std::unique_ptr<press::KeptStages>> open(bool resume, const std::string& input = "a") {
    said.clear();
    return press::KeptStages::open(folder, press::identity_of(recipe, {input}), resume,
                                   [this](const std::string& line) { said += line + "\n"; });
  }
  Result<press::Work> begin(press::KeptStages& kept) {
    press::PipelineOptions options;
    options.kept = &kept;
    return press::begin_work(*checkpoint.source, model, recipe.seed, options);
  }

  std::string folder;
  press::Checkpoint checkpoint;
  Identified model;
  press::Recipe recipe;
  std::string said;
};

}  // namespace

TEST_CASE("Kept stages come back as they were", "[kept]") {
  const ScratchFolder scratch;
  Subject subject(scratch);
  std::vector<std::byte> expected;
  std::string plan;
  {
    auto kept = subject.open(false);
    REQUIRE_OK(kept.status());
    auto work = subject.begin(*kept.value());
    REQUIRE_OK(work.status());
    REQUIRE_OK(press::run_stage(*subject.recipe.stages[0], work.value()));
    work.value().hidden = at::ones({4, 128}, at::kFloat);
    work.value().errors["x"] = 0.25;
    REQUIRE_OK(kept.value()->keep(1, work.value()));
    const auto index = work.value().source->index_of("blocks.1.att.key1.weight");
    REQUIRE_OK(index.status());
    REQUIRE_OK(work.value().source->read(index.value(), expected));
  }
  CHECK(fs::exists(subject.folder + "/after-stage-1.safetensors"));
  CHECK(subject.open(false).status().code() == Code::Usage);
  auto kept = subject.open(true);
  REQUIRE_OK(kept.status());
  CHECK(kept.value()->done() == 1);
  auto work = subject.begin(*kept.value());
  REQUIRE_OK(work.status());
  const auto index = work.value().source->index_of("blocks.1.att.key1.weight");
  REQUIRE_OK(index.status());
  std::vector<std::byte> read;
  REQUIRE_OK(work.value().source->read(index.value(), read));
  CHECK((read == expected));
  CHECK_FALSE(work.value().source->index_of("blocks.1.att.key.weight").ok());
  CHECK(work.value().plan.config.low_rank == LowRankForm::Linear);
  CHECK(work.value().plan.find("blocks.1.att.key1.weight") != nullptr);
  CHECK(at::equal(work.value().hidden, at::ones({4, 128}, at::kFloat)));
  CHECK(work.value().errors.at("x") == 0.25);
  // While this one works, no other does.
  CHECK(subject.open(true).status().code() == Code::Usage);
  kept.value()->remove();
  CHECK_FALSE(fs::exists(subject.folder));
}

TEST_CASE("Kept stages are refused after any change of their bytes", "[kept]") {
  const ScratchFolder scratch;
  Subject subject(scratch);
  {
    auto kept = subject.open(false);
    REQUIRE_OK(kept.status());
    auto work = subject.begin(*kept.value());
    REQUIRE_OK(work.status());
    REQUIRE_OK(press::run_stage(*subject.recipe.stages[0], work.value()));
    REQUIRE_OK(kept.value()->keep(1, work.value()));
  }
  const std::string state = subject.folder + "/after-stage-1.safetensors";
  const std::string data = subject.folder + "/stages.data";
  const std::vector<std::byte> sound_state = read_bytes(state);
  const std::vector<std::byte> sound_data = read_bytes(data);
  const auto check = [&](const std::string& path, std::span<const std::byte> bytes) {
    // What was refused before has been removed.
    write_bytes(state, sound_state);
    write_bytes(data, sound_data);
    write_bytes(path, bytes);
    const auto kept = subject.open(true);
    INFO(path << ": " << kept.status().message());
    CHECK((!kept.ok() || kept.value()->done() == 0));
    CHECK(subject.said.find("passed over") != std::string::npos);
  };
  for (const auto& [path, sound] : {std::pair(state, sound_state), std::pair(data, sound_data)}) {
    const size_t step = std::max<size_t>(1, sound.size() / 40);
    for (size_t at = 0; at < sound.size(); at += step) {
      std::vector<std::byte> changed = sound;
      changed[at] ^= std::byte{0x10};
      check(path, changed);
    }
    for (const size_t length : {size_t{0}, sound.size() / 2, sound.size() - 1}) {
      check(path, std::span(sound).first(length));
    }
  }
  // And the sound ones are taken.
  write_bytes(state, sound_state);
  write_bytes(data, sound_data);
  const auto kept = subject.open(true);
  REQUIRE_OK(kept.status());
  CHECK(kept.value()->done() == 1);
}

TEST_CASE("Stages of other inputs are not used, and that is said", "[kept]") {
  const ScratchFolder scratch;
  Subject subject(scratch);
  {
    auto kept = subject.open(false);
    REQUIRE_OK(kept.status());
    auto work = subject.begin(*kept.value());
    REQUIRE_OK(work.status());
    REQUIRE_OK(kept.value()->keep(1, work.value()));
  }
  const auto kept = subject.open(true, "b");
  REQUIRE_OK(kept.status());
  CHECK(kept.value()->done() == 0);
  CHECK(kept.value()->had_others());
  CHECK(subject.said.find("kept 'a', now 'b'") != std::string::npos);
}
