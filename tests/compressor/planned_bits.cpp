// Plans below int8: codes learnt from text, budgets of the file, measurements that go on where they
// were interrupted, and the files that keep them.
#include <nlohmann/json.hpp>

#include "compressor/planner/fit.h"
#include "compressor/quantizers/learnt.h"
#include "tests/compressor/planner_testing.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;
using Json = nlohmann::json;

namespace {

edge::MemoryOptions loaded() {
  edge::MemoryOptions options;
  options.mode = edge::MemoryMode::Loaded;
  return options;
}

press::Curves curves_of(const press::PlanSubject& subject, press::LossMeter& meter) {
  auto curves = press::measure_curves(subject, meter, {});
  REQUIRE_OK(curves.status());
  return curves.take();
}

bool uses_lut(const press::Choice& choice) {
  return std::any_of(choice.matrices.begin(), choice.matrices.end(),
                     [](const press::MatrixSetting& setting) {
                       return codec_traits(setting.codec).lut != nullptr;
                     });
}

}  // namespace

TEST_CASE("Codes learnt from text lose less, and about what the packed file loses",
          "[planner][bits]") {
  const std::string arch = GENERATE("v4", "v5.2", "v7");
  INFO(arch);
  SmallSubject small(arch);
  const press::PlanSubject& subject = *small.subject;
  const auto learnt = meter_of(subject);
  auto nearest = press::LossMeter::create(subject.source, subject.model.config, subject.matrices,
                                          subject.calibration.tokens, subject.held_out);
  REQUIRE_OK(nearest.status());
  for (const Codec codec : {Codec::Lut4, Codec::Lut3, Codec::Lut2}) {
    const press::Choice choice = press::dense_choice(subject.matrices.size(), codec, Codec::F16);
    const double kl = learnt->loss(choice.matrices).kl;
    INFO(codec_traits(codec).name);
    CHECK(kl < nearest.value()->loss(choice.matrices).kl);
    const std::string path = small.scratch.file("m.gguf");
    REQUIRE_OK(press::pack_choice(subject, choice, path).status());
    const auto dense = press::pack_dense(subject);
    REQUIRE_OK(dense.status());
    const auto measured =
        press::measure_packed(path, subject.held_out, loaded(), dense.value().path);
    REQUIRE_OK(measured.status());
    CHECK(measured.value().kl > 0.5 * kl);
    CHECK(measured.value().kl < 2 * kl);
  }
}

TEST_CASE("Both factors of a pair get codes, the second for what the first one gives",
          "[planner][bits]") {
  SmallSubject small("v6");
  const press::PlanSubject& subject = *small.subject;
  const auto learnt = meter_of(subject);
  auto nearest = press::LossMeter::create(subject.source, subject.model.config, subject.matrices,
                                          subject.calibration.tokens, subject.held_out);
  REQUIRE_OK(nearest.status());
  // Rank 64 of 128: whole groups. Rank 42: the second factor stays in int8.
  for (const double factor : {2.0, 3.0}) {
    std::vector<press::MatrixSetting> settings;
    for (const press::PlannedMatrix& matrix : subject.matrices) {
      settings.push_back(
          {matrix.may_pair ? factor : 0, matrix.may_pair ? Codec::Lut2 : Codec::F16});
    }
    std::vector<press::MatrixSetting> pairs = settings;
    for (press::MatrixSetting& setting : pairs) {
      setting.codec = Codec::F16;
    }
    const double kl = learnt->loss(settings).kl;
    CHECK(kl < nearest.value()->loss(settings).kl);
    CHECK(kl > learnt->loss(pairs).kl);
  }
}

TEST_CASE("Plans reach below int8, in memory and in the file", "[planner][bits]") {
  const std::string arch = GENERATE("v5.1", "v6");
  INFO(arch);
  SmallSubject small(arch);
  small.subject->has_pairs = false;
  const press::PlanSubject& subject = *small.subject;
  const auto meter = meter_of(subject);
  const press::Curves curves = curves_of(subject, *meter);
  for (const auto& points : curves.matrices) {
    CHECK(points.size() == 7);
  }
  press::PlanRequest request;
  request.mode = edge::MemoryMode::Loaded;
  const press::PlanSpace space(subject, curves, request);
  const auto bytes_in = [&](Codec codec) {
    const auto footprint = space.footprint(
        press::dense_choice(subject.matrices.size(), codec, codec), space.frames(false).front());
    REQUIRE_OK(footprint.status());
    return footprint.value();
  };
  const press::ChoiceBytes int8 = bytes_in(Codec::I8Row);
  const press::ChoiceBytes lut2 = bytes_in(Codec::Lut2);
  CHECK(lut2.resident < int8.resident);
  CHECK(lut2.file < int8.file);
  struct Limits {
    uint64_t resident, size;
  };
  const uint64_t middle = (int8.resident + lut2.resident) / 2;
  const uint64_t middle_file = (int8.file + lut2.file) / 2;
  for (const Limits& limits : {Limits{middle, 0},
                               {0, middle_file},
                               {middle, (lut2.file + middle_file) / 2},
                               {(lut2.resident + middle) / 2, middle_file}}) {
    INFO(limits.resident << " " << limits.size);
    request.resident = limits.resident;
    request.size = limits.size;
    const auto plan = press::plan_for_budget(subject, *meter, curves, request, 1);
    REQUIRE_OK(plan.status());
    const press::PlanReport& report = plan.value();
    CHECK((limits.resident == 0 || report.measured.resident <= limits.resident));
    CHECK((limits.size == 0 || report.file_bytes <= limits.size));
    CHECK(uses_lut(report.planned.choice));
    // Predicted with room for the names that convert stores, never below.
    CHECK(report.file_bytes <= report.planned.footprint.file);
    CHECK(report.file_bytes + 400 > report.planned.footprint.file);
    if (report.uniform) {
      CHECK(report.planned.loss <= report.uniform->loss + 1e-6);
    }
    // It wants the text with which it was measured.
    const auto recipe = press::parse_recipe(report.recipe, "plan", {});
    REQUIRE_OK(recipe.status());
    CHECK(press::needs_calibration(recipe.value()));
  }
  request = {.size = lut2.file / 2, .mode = edge::MemoryMode::Loaded};
  const Status refused = press::plan_for_budget(subject, *meter, curves, request, 1).status();
  CHECK(refused.code() == Code::Usage);
  const auto least = space.smallest(press::Measure::File);
  REQUIRE_OK(least.status());
  CHECK_THAT(refused.message(), Contains(std::to_string(least.value().footprint.file)));
  request.size = least.value().footprint.file;
  const auto tightest = press::plan_for_budget(subject, *meter, curves, request, 0);
  REQUIRE_OK(tightest.status());
  CHECK(tightest.value().file_bytes <= request.size);
}

TEST_CASE("Measured curves go on where they were interrupted", "[planner][bits]") {
  SmallSubject small("v5.2");
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::F16, Codec::Lut3});
  const std::string whole = press::curves_text("key", curves_of(subject, *meter_of(subject)));
  std::string kept;
  size_t n_steps = 0;
  size_t most = 3;
  press::CurveOptions options;
  options.save = [&](const press::Curves& curves) -> Status {
    kept = press::curves_text("key", curves);
    return ++n_steps < most ? Status() : failed("interrupted");
  };
  // Three steps at a time, each by a process of its own, until nothing is left to measure.
  press::Curves begun;
  bool is_done = false;
  size_t n_runs = 0;
  while (!is_done && ++n_runs < 100) {
    n_steps = 0;
    const auto curves = press::measure_curves(subject, *meter_of(subject), options, begun);
    is_done = curves.ok();
    const auto read = press::parse_curves(kept, "key");
    REQUIRE_OK(read.status());
    REQUIRE_OK(press::check_curves(read.value(), subject));
    begun = read.value();
  }
  CHECK(n_runs > 5);
  CHECK(kept == whole);
}

TEST_CASE("A file of curves that was changed is refused", "[planner][bits]") {
  SmallSubject small("v4");
  press::PlanSubject& subject = *small.subject;
  subject.ladder = press::Ladder({Codec::F16, Codec::Lut2});
  const std::string text = press::curves_text("key", press::unmeasured_curves(subject));
  REQUIRE_OK(press::parse_curves(text, "key").status());
  const auto refused = [&](const std::string& changed, const std::string& says) {
    const auto curves = press::parse_curves(changed, "key");
    const Status status =
        curves.ok() ? press::check_curves(curves.value(), subject) : curves.status();
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Contains(says));
  };
  const Json json = Json::parse(text);
  const auto with = [&](const char* pointer, const Json& value) {
    Json changed = json;
    changed[Json::json_pointer(pointer)] = value;
    changed["checksum"] = press::curves_checksum(changed.dump());
    return changed.dump();
  };
  refused(with("/matrices/1/0/factor", -1), "'factor'");
  refused(with("/matrices/1/0/factor", 1e-300), "a factor between 0 and 1");
  refused(with("/matrices/1/0/factor", 7), "has other settings of 'blocks.0.");
  refused(with("/matrices/1/1/codec", "i8_row"), "has other settings of 'blocks.0.");
  refused(with("/matrices/1/1/codec", "lut9"), "a codec that does not exist");
  refused(with("/matrices/1/1/loss", -1), "'loss'");
  refused(with("/matrices/1/1/loss", 1e300), "'loss'");
  refused(with("/lora/1/codec", "i8_row"), "lora matrices in f16 lut2");
  refused(with("/ffn/0/share", 2), "'share'");
  refused(with("/dense", "x"), "'dense'");
  refused(with("/version", 3), "version 2, found 3");
  Json old = json;
  old.erase("version");
  refused(old.dump(), "found those of an earlier version; remove the file");
  refused("{\"key\": \"key\", \"key\": \"key\"}", "the key 'key' twice");
}
