// Plans for a model that is larger than memory and whose weights are read while it computes.
#include "compressor/planner/space.h"
#include "tests/compressor/planner_testing.h"

using namespace rwkv;
using namespace rwkv::test;

TEST_CASE("A plan may stream a model that is larger than memory", "[planner]") {
  SmallSubject small("v5.2");
  const press::PlanSubject& subject = *small.subject;
  const auto meter = meter_of(subject);
  const auto curves = press::measure_curves(subject, *meter, {.sparse = true, .speed = true});
  REQUIRE_OK(curves.status());
  press::PlanRequest request;
  request.mode = edge::MemoryMode::Loaded;
  request.resident = 1;
  const press::PlanSpace space(subject, curves.value(), request);
  const auto least = space.smallest(press::Measure::Resident);
  REQUIRE_OK(least.status());
  const auto most = space.footprint(press::lossless_choice(subject), space.frames(false).front());
  REQUIRE_OK(most.status());
  // Enough for a ring of the largest matrices, at an easy speed.
  request.mode = std::nullopt;
  request.resident = (3 * least.value().footprint.resident + most.value().resident) / 4;
  request.min_speed = 1;
  const auto plan = [&](double read_speed) {
    request.read_speed = read_speed;
    auto report = press::plan_for_budget(subject, *meter, curves.value(), request, 1);
    REQUIRE_OK(report.status());
    return report.take();
  };
  const press::PlanReport plain = plan(0);
  const press::PlanReport some = plan(400'000);
  const press::PlanReport all = plan(1e9);
  INFO(least.value().footprint.resident << " " << request.resident << " of "
                                        << most.value().resident);
  CHECK(plain.planned.frame.memory.mode != edge::MemoryMode::Streamed);
  for (const press::PlanReport& streamed : {some, all}) {
    CHECK(streamed.planned.frame.memory.mode == edge::MemoryMode::Streamed);
    CHECK(streamed.measured.resident <= request.resident);
    CHECK(streamed.planned.footprint.resident <= request.resident);
    CHECK(streamed.measured.kl < plain.measured.kl);
  }
  // More of a faster storage; what is read at once need not lose anything.
  CHECK(some.planned.footprint.file > plain.planned.footprint.file);
  CHECK(all.planned.footprint.file > some.planned.footprint.file);
  CHECK((all.planned.choice.matrices == press::lossless_choice(subject).matrices));
}
