// The planner: bytes predicted against the runtime's own account, what a budget refuses, and a plan
// of a small model from text to packed file.
#include <ATen/core/Tensor.h>

#include <map>
#include <random>
#include <set>

#include "compressor/pipeline/pipeline.h"
#include "compressor/planner/fit.h"
#include "compressor/stages/quantize.h"
#include "runtime/model/model.h"
#include "tests/compressor/planner_testing.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

edge::MemoryOptions sparse(double neurons, double head) {
  edge::MemoryOptions options;
  options.mode = edge::MemoryMode::Sparse;
  options.neuron_cache = neurons;
  options.head_cache = head;
  options.embedding_rows = 16;
  return options;
}

edge::MemoryOptions loaded() {
  edge::MemoryOptions options;
  options.mode = edge::MemoryMode::Loaded;
  return options;
}

press::Choice random_choice(std::mt19937_64& random, const press::PlanSubject& subject,
                            const std::vector<Codec>& codecs = {Codec::F16, Codec::I8Row}) {
  constexpr std::array<double, 4> kFactors = {0, 2, 4, 16};
  const auto any = [&] { return codecs[random() % codecs.size()]; };
  press::Choice choice;
  choice.method = {random() % 2 == 0, random() % 2 == 0};
  for (const press::PlannedMatrix& matrix : subject.matrices) {
    choice.matrices.push_back({matrix.may_pair ? kFactors[random() % 4] : 0, any()});
  }
  choice.lora = any();
  choice.recall = random() % 2 == 0 ? 0 : 0.95;
  choice.p_min = random() % 2 == 0 ? 0 : 0.9;
  return choice;
}

}  // namespace

TEST_CASE("Bytes predicted from shapes are the runtime's account", "[planner]") {
  const std::string arch = GENERATE("v4", "v5.2", "v6", "v7");
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, arch);
  const std::string text = write_text(scratch, 8000);
  const std::string stages = GENERATE(
      "  - quantize: {codec: f16}\n",
      "  - low_rank: {method: svd, factor: 4}\n  - quantize: {codec: i8_row, min_numbers: 0}\n",
      "  - cluster_head: {clusters: 20}\n"
      "  - ffn_predictor: {kinds: sign, recall: 0.95}\n"
      "  - quantize: {codec: i8_row, lora_codec: i8_row}\n");
  Conversion how;
  how.recipe = "name: test\ncalibration: {samples: 16, length: 64}\nstages:\n" + stages;
  how.vocab = "bytes";
  how.texts = {text};
  const std::string packed = scratch.file("m.gguf");
  REQUIRE_OK(convert(input, packed, how));
  const auto recipe = press::parse_recipe(how.recipe, "test", {});
  REQUIRE_OK(recipe.status());
  auto checkpoint = press::open_checkpoint(input);
  REQUIRE_OK(checkpoint.status());
  const auto model = press::identify_checkpoint(*checkpoint.value().source);
  REQUIRE_OK(model.status());
  const auto plan = press::plan_stages(recipe.value(), model.value());
  REQUIRE_OK(plan.status());
  const auto tokenizer = press::tokenizer_bytes(Vocabulary{});
  REQUIRE_OK(tokenizer.status());
  edge::MemoryOptions layerwise = sparse(0, 0.5);
  layerwise.mode = edge::MemoryMode::Layerwise;
  for (const edge::MemoryOptions& options : {loaded(), sparse(0.25, 0.13), layerwise}) {
    const auto predicted = press::planned_account(plan.value(), tokenizer.value(), options);
    REQUIRE_OK(predicted.status());
    const auto opened = edge::Model::open(packed, options);
    REQUIRE_OK(opened.status());
    CHECK(predicted.value().total() == opened.value()->weights().account().total());
  }
}

TEST_CASE("A choice is an ordinary recipe", "[planner]") {
  const SmallSubject small(GENERATE("v5.2", "v7"));
  const press::PlanSubject& subject = *small.subject;
  std::mt19937_64 random(7);
  for (int i = 0; i < 12; ++i) {
    const std::vector<Codec> rungs(subject.ladder.rungs().begin(), subject.ladder.rungs().end());
    const press::Choice choice =
        i % 2 == 0 ? random_choice(random, subject)
        : i % 4 == 1
            ? random_choice(random, subject, rungs)
            : random_choice(random, subject, {Codec::Lut3, Codec::Lut3, Codec::Lut3, Codec::Lut4});
    const std::string yaml = press::recipe_yaml(choice, subject.matrices, subject.frame);
    INFO(yaml);
    const auto recipe = press::parse_recipe(yaml, "plan", {});
    REQUIRE_OK(recipe.status());
    const auto again = press::parse_recipe(recipe.value().effective_yaml(), "plan", {});
    REQUIRE_OK(again.status());
    const auto plan = press::plan_stages(again.value(), subject.model);
    REQUIRE_OK(plan.status());
    for (const press::PlannedTensor& tensor : plan.value().tensors) {
      // What was fitted without low bits does not get them.
      if (tensor.binding.role == Role::Predictor || tensor.binding.role == Role::ClusterHead) {
        CHECK(codec_traits(tensor.codec).lut == nullptr);
      }
    }
    CHECK((plan.value().config.n_cluster > 0) == (choice.p_min > 0));
    CHECK((plan.value().config.predictor_hidden > 0) == (choice.recall > 0));
    for (size_t m = 0; m < choice.matrices.size(); ++m) {
      const press::PlannedMatrix& matrix = subject.matrices[m];
      const press::MatrixSetting& setting = choice.matrices[m];
      const std::string stem = matrix.name.substr(0, matrix.name.size() - 7);
      const press::PlannedTensor* dense = plan.value().find(matrix.name);
      const press::PlannedTensor* pair = plan.value().find(stem + "1.weight");
      REQUIRE((dense == nullptr) == (setting.factor > 0));
      const press::PlannedTensor& tensor = setting.factor > 0 ? *pair : *dense;
      const auto in_rows = [](Codec codec) {
        const Codec rows = codec_traits(codec).in_rows;
        return rows == Codec::F32 ? codec : rows;
      };
      CHECK(in_rows(tensor.codec) == in_rows(setting.codec));
      if (setting.factor > 0) {
        const press::PlannedTensor* second = plan.value().find(stem + "2.weight");
        CHECK(second->codec ==
              press::codec_for_columns(setting.codec, second->binding.packed_cols()));
        CHECK(tensor.encoded_bytes() + second->encoded_bytes() ==
              press::encoded_bytes(matrix, setting));
        CHECK(static_cast<int64_t>(tensor.binding.shape[0]) ==
              press::rank_of(setting.factor, matrix.rows, matrix.cols));
      }
    }
  }
}

TEST_CASE("Losses of the network with settings are those of the packed file", "[planner]") {
  SmallSubject small("v5.2");
  const press::PlanSubject& subject = *small.subject;
  auto meter = press::LossMeter::create(subject.source, subject.model.config, subject.matrices,
                                        subject.calibration.tokens, subject.held_out);
  REQUIRE_OK(meter.status());
  std::mt19937_64 random(8);
  for (int i = 0; i < 3; ++i) {
    press::Choice choice = random_choice(random, subject);
    choice.recall = 0;
    choice.p_min = 0;
    meter.value()->set_method(choice.method);
    const press::TextLoss predicted = meter.value()->loss(choice.matrices);
    const std::string path = small.scratch.file("m.gguf");
    REQUIRE_OK(press::pack_choice(subject, choice, path).status());
    const auto dense = press::pack_dense(subject);
    REQUIRE_OK(dense.status());
    const auto measured =
        press::measure_packed(path, subject.held_out, loaded(), dense.value().path);
    REQUIRE_OK(measured.status());
    CHECK(measured.value().nats_per_token == Approx(predicted.nats).epsilon(2e-4));
    CHECK(measured.value().kl == Approx(predicted.kl).epsilon(0.01));
    CHECK(measured.value().kl > 0);
    // One changed matrix by itself is the same as all given anew.
    auto changed = choice.matrices;
    changed[3] = {8, Codec::I8Row};
    const double alone = meter.value()->loss_with(3, changed[3]).kl;
    CHECK(meter.value()->loss(changed).kl == Approx(alone).epsilon(1e-5));
  }
}

TEST_CASE("A plan fits its budget and is no worse than a uniform one", "[planner]") {
  SmallSubject small("v7");
  const press::PlanSubject& subject = *small.subject;
  auto meter = press::LossMeter::create(subject.source, subject.model.config, subject.matrices,
                                        subject.calibration.tokens, subject.held_out);
  REQUIRE_OK(meter.status());
  const auto curves = press::measure_curves(subject, *meter.value(), {.sparse = true});
  REQUIRE_OK(curves.status());
  const std::string file = small.scratch.file("curves.json");
  REQUIRE_OK(press::write_curves(file, "key", curves.value()));
  CHECK(press::read_curves(file, "other").status().code() == Code::Usage);
  const auto read = press::read_curves(file, "key");
  REQUIRE_OK(read.status());
  const std::vector<std::byte> bytes = read_bytes(file);
  for (size_t at = 3; at < bytes.size(); at += bytes.size() / 20) {
    std::vector<std::byte> changed = bytes;
    // The first digit of a number: the last ones of a long one may not change its value.
    const auto is_digit = [](std::byte b) { return b >= std::byte{'0'} && b <= std::byte{'9'}; };
    auto digit = changed.begin() + static_cast<std::ptrdiff_t>(at);
    while (digit != changed.end() &&
           !(is_digit(*digit) && !is_digit(digit[-1]) && digit[-1] != std::byte{'.'})) {
      ++digit;
    }
    if (digit != changed.end()) {
      *digit ^= std::byte{1};
      write_bytes(file, changed);
      const Status damaged = press::read_curves(file, "key").status();
      CHECK(damaged.code() == Code::BadInput);
      CHECK_THAT(damaged.message(), Catch::Contains(file));
    }
  }

  press::PlanRequest request;
  request.resident = 1;
  const press::PlanSpace space(subject, read.value(), request);
  const auto smallest = space.smallest(press::Measure::Resident);
  REQUIRE_OK(smallest.status());
  const uint64_t least = smallest.value().footprint.resident;
  const Status refused =
      press::plan_for_budget(subject, *meter.value(), read.value(), request, 1).status();
  CHECK(refused.code() == Code::Usage);
  CHECK_THAT(refused.message(), Catch::Contains(std::to_string(least)));

  const press::Choice dense = press::lossless_choice(subject);
  const auto whole = space.footprint(dense, space.frames(false).front());
  REQUIRE_OK(whole.status());
  const uint64_t most = whole.value().resident;
  for (const uint64_t budget : {least, (3 * least + most) / 4, most}) {
    request.resident = budget;
    const auto plan = press::plan_for_budget(subject, *meter.value(), read.value(), request, 1);
    REQUIRE_OK(plan.status());
    const press::PlanReport& report = plan.value();
    CHECK(report.measured.resident <= budget);
    CHECK(static_cast<double>(report.planned.footprint.resident) ==
          Approx(static_cast<double>(report.measured.resident)).epsilon(0.02));
    if (report.uniform) {
      CHECK(report.planned.loss <= report.uniform->loss + 1e-3);
    }
    if (budget != most) {
      const auto again = press::plan_for_budget(subject, *meter.value(), read.value(), request, 1);
      REQUIRE_OK(again.status());
      CHECK(again.value().recipe == report.recipe);
    }
    if (budget == most) {
      CHECK((report.planned.choice.matrices == dense.matrices));
      CHECK(report.planned.choice.recall == 0);
      CHECK(report.planned.choice.p_min == 0);
      CHECK(*report.planned.frame.memory.mode == edge::MemoryMode::Loaded);
    }
  }
}

TEST_CASE("A ladder is ordered by bytes and names the rungs next to one", "[planner]") {
  const press::Ladder all;
  CHECK(all.describe() == "f16 i8_row u6 lut5 lut4 lut3 lut2");
  CHECK(all.finest() == Codec::F16);
  CHECK(all.coarsest() == Codec::Lut2);
  CHECK((all.rungs_for(32) == std::vector<Codec>{Codec::F16, Codec::I8Row}));
  CHECK(all.rungs_for(64).size() == 7);
  const press::Ladder three({Codec::I8Row, Codec::F32, Codec::F16});
  CHECK(three.describe() == "f32 f16 i8_row");
  CHECK(three.below().size() == 2);
  CHECK((three.neighbours(Codec::F32) == std::vector<Codec>{Codec::F16}));
  CHECK((three.neighbours(Codec::F16) == std::vector<Codec>{Codec::F32, Codec::I8Row}));
  CHECK((three.neighbours(Codec::I8Row) == std::vector<Codec>{Codec::F16}));
  CHECK(three.neighbours(Codec::Mm8).empty());
}

TEST_CASE("A plan uses every rung of its ladder", "[planner]") {
  SmallSubject small("v7");
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::I8Row, Codec::F32, Codec::F16});
  auto meter = press::LossMeter::create(subject.source, subject.model.config, subject.matrices,
                                        subject.calibration.tokens, subject.held_out);
  REQUIRE_OK(meter.status());
  const auto curves = press::measure_curves(subject, *meter.value(), {});
  REQUIRE_OK(curves.status());
  REQUIRE(curves.value().lora.size() == 3);
  CHECK(curves.value().lora[0].codec == Codec::F32);
  CHECK(curves.value().lora[0].loss == 0);
  for (const auto& points : curves.value().matrices) {
    CHECK(points.size() % 3 == 0);
    CHECK(points[0].loss == 0);
    CHECK(points[1].loss > 0);
    CHECK(points[2].loss > points[1].loss);
  }

  press::PlanRequest request;
  request.mode = edge::MemoryMode::Loaded;
  const press::PlanSpace space(subject, curves.value(), request);
  std::map<Codec, uint64_t> bytes;
  for (const Codec rung : subject.ladder.rungs()) {
    const press::Choice dense = press::dense_choice(subject.matrices.size(), rung, rung);
    const auto footprint = space.footprint(dense, space.frames(false).front());
    REQUIRE_OK(footprint.status());
    bytes[rung] = footprint.value().resident;
  }
  // Between two rungs both are used.
  const auto used_at = [&](uint64_t budget) {
    request.resident = budget;
    const auto plan = press::plan_for_budget(subject, *meter.value(), curves.value(), request, 2);
    REQUIRE_OK(plan.status());
    CHECK(plan.value().measured.resident <= budget);
    const auto recipe = press::parse_recipe(plan.value().recipe, "plan", {});
    REQUIRE_OK(recipe.status());
    std::set<Codec> used;
    for (const press::MatrixSetting& setting : plan.value().planned.choice.matrices) {
      used.insert(setting.codec);
    }
    std::string names;
    for (const Codec codec : used) {
      names += std::string(codec_traits(codec).name) + " ";
    }
    return names;
  };
  CHECK(used_at(bytes[Codec::F32]) == "f32 ");
  CHECK(used_at((bytes[Codec::F32] + bytes[Codec::F16]) / 2) == "f32 f16 ");
  // What is left of the budget may even buy a matrix in f32.
  CHECK_THAT(used_at((bytes[Codec::F16] + bytes[Codec::I8Row]) / 2),
             Catch::Contains("f16 i8_row "));
}

TEST_CASE("A library caller can plan, and measures once for several budgets", "[planner]") {
  const ScratchFolder scratch;
  const std::string path = write_synth(scratch, "v5.2");
  auto opened = press::open_checkpoint(path);
  REQUIRE_OK(opened.status());
  const press::Checkpoint checkpoint = opened.take();
  const auto model = press::identify_checkpoint(*checkpoint.source);
  REQUIRE_OK(model.status());
  press::FitOptions options;
  options.path = path;
  options.vocabulary = Vocabulary{};
  options.calibration = {write_text(scratch, 12000)};
  options.curves = scratch.file("curves.json");
  std::set<std::string> heard;
  options.progress = [&](const std::string& what, double /*share*/) { heard.insert(what); };
  const auto plan = [&](const std::string& budget) {
    const std::string yaml = "budget: {resident: " + budget +
                             ", memory: loaded, samples: 4, rounds: 1}\n"
                             "calibration: {samples: 16, length: 64}\n";
    const auto recipe = press::parse_recipe(yaml, "fit", {});
    REQUIRE_OK(recipe.status());
    heard.clear();
    return press::fit_budget(*checkpoint.source, model.value(), recipe.value(), options);
  };
  const auto large = plan("100MB");
  REQUIRE_OK(large.status());
  CHECK(heard.contains("curves of matrices"));
  CHECK((large.value().plan.planned.choice.matrices ==
         std::vector<press::MatrixSetting>(large.value().matrices.size(), {0, Codec::F16})));
  const uint64_t most = large.value().plan.measured.resident;
  const auto small = plan(std::to_string(most * 3 / 4));
  REQUIRE_OK(small.status());
  CHECK_FALSE(heard.contains("curves of matrices"));
  CHECK(small.value().plan.measured.resident <= most * 3 / 4);
  CHECK(small.value().plan.recipe.find("name: \"fit\"") != std::string::npos);
  CHECK_THAT(press::summary(small.value()), Catch::Contains("predicted"));

  // The curves belong to their ladder, and a budget that cannot be met is refused.
  CHECK_THAT(plan("100MB, codecs: [f32, int8]").status().message(),
             Catch::Contains("measured for another"));
  CHECK_THAT(plan("1000").status().message(), Catch::Contains("the smallest that can is"));
}

TEST_CASE("What a budget cannot be is refused", "[planner]") {
  struct Case {
    std::string yaml, says;
  };
  const std::vector<Case> cases = {
      {"budget: {resident: 200MB, memry: sparse}",
       "unknown key 'budget.memry' (line 1); did you mean "
       "'memory'?"},
      {"budgett: {resident: 200MB}", "did you mean 'budget'?"},
      {"budget: {resident: lots}", "expected a size such as 64MB"},
      {"budget: {memory: sparse}", "budget.resident is missing"},
      {"budget: 200MB", "expected a map"},
      {"budget: {resident: 1MB, memory: spars}", "did you mean 'sparse'?"},
      {"budget: {size: much}", "expected a size such as 64MB"},
      {"budget: {size: 1MB, codecs: [mm8]}", "plans cannot choose it"},
      {"budget: {size: 1MB, codecs: [int9]}", "budget.codecs: expected f32, f16, i8_row"},
      {"budget: {resident: 1MB, min_speed: fast}", "a number"},
      {"budget: {resident: 1MB, read_speed: 1MB}", "streaming needs resident"},
      {"budget: {resident: 1MB, min_speed: 2, memory: streamed}", "found 2 of them"},
      {"budget: {resident: 1MB}\nstages: [quantize]", "found both"},
  };
  for (const Case& wrong : cases) {
    const Status status = press::parse_recipe(wrong.yaml, "r", {}).status();
    CHECK(status.code() == Code::Usage);
    CHECK_THAT(status.message(), Catch::Contains(wrong.says));
  }
  const std::vector<std::string> set = {"budget.memory=sparse", "budget.samples=3"};
  const auto recipe = press::parse_recipe("budget: {resident: 1.5MB}", "r", set);
  REQUIRE_OK(recipe.status());
  CHECK(recipe.value().budget->resident == 1'500'000);
  CHECK(recipe.value().budget->memory == "sparse");
  CHECK(recipe.value().budget->samples == 3);
  const auto again = press::parse_recipe(recipe.value().effective_yaml(), "r", {});
  REQUIRE_OK(again.status());
  CHECK(again.value().effective_yaml() == recipe.value().effective_yaml());

  const auto of_file = press::parse_recipe("budget: {size: 2MB, codecs: [int8, lut3]}", "r", {});
  REQUIRE_OK(of_file.status());
  CHECK(of_file.value().budget->size == 2'000'000);
  CHECK((of_file.value().budget->codecs == std::vector<std::string>{"i8_row", "lut3"}));
  CHECK_THAT(of_file.value().effective_yaml(),
             Catch::Contains("size: 2000000") && !Catch::Contains("resident"));

  const SmallSubject small("v5.2");
  CHECK(press::plan_stages(recipe.value(), small.subject->model).status().code() == Code::Usage);
  press::PlanRequest request;
  request.resident = 1000;
  const Status tiny = press::check_budget(*small.subject, request);
  CHECK(tiny.code() == Code::Usage);
  CHECK_THAT(tiny.message(), Catch::Contains("the smallest that can is"));
  request.resident = 0;
  request.size = 1000;
  CHECK_THAT(press::check_budget(*small.subject, request).message(),
             Catch::Contains("a file of 1000 bytes cannot be made; the smallest that can is"));
}
