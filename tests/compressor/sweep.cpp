// Parts of a sweep by themselves: claims, who gets which points, fields of the CSV, eigenvectors
// that fits share.
#include <unistd.h>

#include "compressor/low_rank/factorise.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/sweep/claim.h"
#include "compressor/sweep/device.h"
#include "compressor/sweep/points.h"
#include "compressor/sweep/results.h"
#include "compressor/sweep/units.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using namespace rwkv::test;
using Catch::Contains;

namespace {

press::SweepPlan plan_of(const std::string& yaml) {
  auto settings = press::parse_sweep(yaml, "sweep.yaml");
  REQUIRE_OK(settings.status());
  auto plan = press::plan_sweep(settings.value());
  REQUIRE_OK(plan.status());
  return plan.take();
}

}  // namespace

TEST_CASE("A claim holds while its process lives", "[sweep]") {
  const ScratchFolder scratch;
  const std::string path = scratch.file("claim");
  {
    auto first = press::Claim::take(path, false);
    REQUIRE_OK(first.status());
    REQUIRE(first.value().has_value());
    auto second = press::Claim::take(path, true);  // of this machine and alive
    REQUIRE_OK(second.status());
    CHECK_FALSE(second.value().has_value());
  }
  CHECK(scratch.entries().empty());
  // The same claim, but of a process that began at another time: its number was given anew.
  std::string text;
  {
    auto mine = press::Claim::take(path, false);
    const auto bytes = read_bytes(path);
    text.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  text.pop_back();
  write_text(path, text + "1\n");
  auto third = press::Claim::take(path, false);
  REQUIRE_OK(third.status());
  CHECK(third.value().has_value());
  CHECK((scratch.entries() == std::vector<std::string>{"claim"}));
}

TEST_CASE("Points that begin alike go to one child", "[sweep]") {
  const press::SweepPlan plan = plan_of(
      "preset: rwkv-lite-int8\nreferences: false\n"
      "axes: {low_rank.factor: [2, 4], quantize.codec: [f16, i8_row]}\n");
  REQUIRE(plan.points.size() == 4);
  const std::vector<size_t> all = {0, 1, 2, 3};
  using Units = std::vector<std::vector<size_t>>;
  CHECK((press::deal_out(plan.points, all, 1) == Units{{0, 1, 2, 3}}));
  CHECK((press::deal_out(plan.points, all, 2) == Units{{0, 1}, {2, 3}}));
  CHECK((press::deal_out(plan.points, all, 3) == Units{{0}, {1}, {2}, {3}}));
  CHECK((press::deal_out(plan.points, {1, 2, 3}, 2) == Units{{1}, {2, 3}}));
  // A training is done once, however many could work.
  const press::SweepPlan trained = plan_of(
      "stages: [low_rank: {factor: 8}, train: {steps: 1}, quantize: {codec: f16}]\n"
      "axes: {low_rank.factor: [2, 4], quantize.codec: [f16, i8_row]}\n");
  CHECK((press::deal_out(trained.points, all, 4) == Units{{0, 1}, {2, 3}}));
}

TEST_CASE("What mends stands with what it mends in an ablation", "[sweep]") {
  const press::SweepPlan plan = plan_of(
      "stages: [low_rank: {factor: 8}, refit, cluster_head, quantize: {codec: i8_row}]\n"
      "ablation: true\n");
  std::vector<std::string> labels;
  for (const auto& bar : plan.ablation) {
    labels.push_back(bar.label);
  }
  CHECK(
      (labels == std::vector<std::string>{"none", "low_rank alone", "low_rank + refit",
                                          "cluster_head alone", "quantize alone", "all together"}));
  CHECK(plan.baseline == plan.ablation.front().point);
  CHECK(plan.points[plan.ablation[1].point].stages.size() == 2);
  CHECK(plan.ablation.back().point == 0);
}

TEST_CASE("Every sweep has the dense model and int8 to compare with", "[sweep]") {
  const press::SweepPlan plan = plan_of(
      "preset: rwkv-lite-int8\ncalibration: {samples: 9}\n"
      "axes: {low_rank.factor: [2, 4], cluster_head.p_min: [0.9]}\n");
  std::vector<std::string> labels;
  for (const press::SweepPoint& point : plan.points) {
    labels.push_back(point.label);
  }
  CHECK((labels == std::vector<std::string>{"factor=2", "factor=4", "dense, fp16", "int8"}));
  CHECK(plan.baseline == size_t{2});
  CHECK(plan.points[0].learns_from == "9 x 256, seed 0");
  CHECK(plan.points[2].learns_from.empty());
  // Where an ablation has the dense model already, it is one point.
  const press::SweepPlan both = plan_of("preset: int8\nablation: true\n");
  CHECK(both.baseline == both.ablation.front().point);
  CHECK(both.points.size() == 2);
  // Axes of one key keep their stages.
  const press::SweepPlan alike = plan_of(
      "stages: [low_rank: {rounds: 1, diagonal: true}, refit, quantize]\nreferences: false\n"
      "axes: {low_rank.rounds: [1, 2], refit.rounds: [1, 2]}\n");
  CHECK(alike.points[0].label == "low_rank.rounds=1 refit.rounds=1");
}

TEST_CASE("Axes of the device make points of one recipe", "[sweep]") {
  const press::SweepPlan plan = plan_of(
      "preset: elastic\nreferences: false\n"
      "axes: {device.memory_limit: [20MB, 30MB], device.weight_bytes: [25MB], "
      "device.read_speed: [100MB]}\n");
  REQUIRE(plan.points.size() == 2);
  CHECK(plan.points[0].recipe == plan.points[1].recipe);
  CHECK(plan.points[0].label == "memory_limit=20MB");
  auto device = press::read_device(plan.points[1].device, "sparse", "device.yaml");
  REQUIRE_OK(device.status());
  CHECK(device.value().mode == "sparse");
  CHECK(device.value().memory_limit == 30'000'000);
  CHECK(device.value().weight_bytes == 25'000'000);
  CHECK(device.value().read_speed == 100'000'000);
  // A point without axes of the device says nothing about it.
  CHECK(plan_of("preset: int8\nreferences: false\n").points[0].device.empty());
  const auto refused = [](const std::string& axes) {
    auto settings = press::parse_sweep("preset: elastic\n" + axes, "sweep.yaml");
    REQUIRE_OK(settings.status());
    return press::plan_sweep(settings.value()).status().message();
  };
  CHECK_THAT(refused("axes: {device.memory_limt: [1MB]}\n"),
             Contains("sweep.yaml: axes") && Contains("did you mean 'memory_limit'"));
  CHECK_THAT(refused("axes: {device: [on]}\n"),
             Contains("device.memory_limit, device.weight_bytes"));
  CHECK_THAT(refused("axes: {device.memory_limit: [much]}\n"), Contains("device.memory_limit"));
  CHECK_THAT(refused("axes: {device.weight_bytes: [1MB]}\nevaluate: {cloze: [q.jsonl]}\n"),
             Contains("leave out the questions"));
}

TEST_CASE("Fields of results.csv may hold anything", "[sweep]") {
  const press::Json results = {
      {"axes", {{{"name", "a,b"}, {"values", {"1"}}}}},
      {"metrics", press::Json::array()},
      {"points",
       {{{"id", "0"}, {"label", "say \"x\""}, {"status", "done"}, {"settings", {{"a,b", "1"}}}}}}};
  CHECK(press::results_to_csv(results) ==
        "id,label,status,error,\"a,b\",file_bytes,resident_bytes,weight_bytes,memory,xxh64,"
        "tokens_per_second,tokens_per_second_low,tokens_per_second_high,seconds\n"
        "0,\"say \"\"x\"\"\",done,,1,,,,,,,,,\n");
}

TEST_CASE("No name in results.csv runs in a spreadsheet", "[sweep]") {
  const auto label_in_csv = [](const char* label) {
    const press::Json results = {{"axes", press::Json::array()},
                                 {"metrics", press::Json::array()},
                                 {"points", {{{"id", "0"}, {"label", label}}}}};
    const std::string csv = press::results_to_csv(results);
    const size_t row = csv.find('\n') + 1;
    return csv.substr(row + 2, csv.find(",,", row) - row - 2);
  };
  CHECK(label_in_csv("=1+1") == "'=1+1");
  CHECK(label_in_csv("@x") == "'@x");
  CHECK(label_in_csv("-cmd") == "'-cmd");
  CHECK(label_in_csv("-1.5e3") == "-1.5e3");
  CHECK(label_in_csv("k=8") == "k=8");
}

TEST_CASE("Fits are the same with kept eigenvectors", "[sweep]") {
  const ScratchFolder scratch;
  const at::Tensor w = at::randn({48, 48});
  const at::Tensor x = at::randn({200, 48});
  const at::Tensor h = at::mm(x.t(), x);
  const press::SpectrumStore store(scratch.path().string());
  for (const int64_t rank : {24, 12, 6}) {
    const press::Factors alone = press::factorise(w, h, rank, 0);
    const press::Factors shared = press::factorise(w, h, rank, 0, store);
    CHECK(at::equal(alone.a, shared.a));
    CHECK(at::equal(alone.b, shared.b));
    CHECK(scratch.entries().size() == 1);
  }
  // A damaged one is made anew.
  const std::string path = scratch.file(scratch.entries().front());
  auto bytes = read_bytes(path);
  bytes[100] ^= std::byte{1};
  write_bytes(path, bytes);
  CHECK(at::equal(press::factorise(w, h, 6, 0).a, press::factorise(w, h, 6, 0, store).a));
}
