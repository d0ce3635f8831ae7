// rwkv-press plan --fit and recipes with a budget, as users call them.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/cli/process.h"
#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;

namespace {

using Arguments = std::vector<std::string>;

struct Inputs {
  ScratchFolder scratch;
  std::string model = scratch.file("m.pth");
  std::string text = scratch.file("text.txt");

  Inputs() {
    const RunResult made =
        run("rwkv-press", {"synth", "--arch", "v5.2", "--n-layer", "1", "--n-embd", "128",
                           "--n-vocab", "256", "--quiet", "-o", model});
    REQUIRE(made.exit_code == 0);
    std::string numbers;
    for (int i = 0; i < 3000; ++i) {
      numbers += std::to_string(i) + "\n";
    }
    write_text(text, numbers);
  }

  Arguments plan(const Arguments& more) const {
    Arguments all = {"plan",
                     model,
                     "--vocab",
                     "bytes",
                     "--calibration",
                     text,
                     "--quiet",
                     "--set",
                     "calibration.samples=16",
                     "--set",
                     "calibration.length=64",
                     "--set",
                     "budget.samples=4"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

nlohmann::json planned(const Arguments& arguments) {
  const RunResult result = run("rwkv-press", arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return nlohmann::json::parse(result.out);
}

}  // namespace

TEST_CASE("plan --fit writes a recipe that convert follows", "[cli][plan]") {
  const Inputs inputs;
  const std::string recipe = inputs.scratch.file("r.yaml");
  const std::string curves = inputs.scratch.file("curves.json");
  const auto plan =
      planned(inputs.plan({"--fit", "700kB", "--json", "-o", recipe, "--curves", curves}));
  CHECK(plan["measured"]["resident"].get<uint64_t>() <= 700'000);
  CHECK(plan["predicted"]["loss"].get<double>() > 0);
  // Curves from the file, the same plan.
  CHECK(planned(inputs.plan({"--fit", "700kB", "--json", "--curves", curves}))["recipe"] ==
        plan["recipe"]);

  const std::string packed = inputs.scratch.file("m.gguf");
  const RunResult converted =
      run("rwkv-press", {"convert", inputs.model, "-o", packed, "--recipe", recipe, "--vocab",
                         "bytes", "--calibration", inputs.text, "--quiet"});
  INFO(converted.err);
  REQUIRE(converted.exit_code == 0);
  const RunResult refused = run("rwkv-press", inputs.plan({"--fit", "700kB", "-o", recipe}));
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("r.yaml"));

  // With a speed that anything reaches, and one that nothing does.
  const auto quick = planned(inputs.plan({"--fit", "2MB", "--json", "--min-speed", "1"}));
  CHECK(quick["predicted"]["tokens_per_second"].get<double>() >= 1);
  CHECK(run("rwkv-press", inputs.plan({"--fit", "2MB", "--min-speed", "1e9"})).exit_code == 2);
  const RunResult alone = run("rwkv-press", inputs.plan({"--read-speed", "1MB"}));
  CHECK(alone.exit_code == 2);
  CHECK_THAT(alone.err, Contains("--read-speed is a part of a budget; give --fit"));
}

TEST_CASE("plan --size reaches below int8, and its file has that size", "[cli][plan]") {
  const Inputs inputs;
  const std::string packed = inputs.scratch.file("m.gguf");
  const auto size_of_file = [&](const Arguments& how) {
    Arguments convert = {"convert", inputs.model, "-o",    packed,
                         "--force", "--vocab",    "bytes", "--quiet"};
    convert.insert(convert.end(), how.begin(), how.end());
    const RunResult converted = run("rwkv-press", convert);
    INFO(converted.err);
    REQUIRE(converted.exit_code == 0);
    return std::filesystem::file_size(packed);
  };
  const uint64_t int8 = size_of_file({"--preset", "int8"});
  const uint64_t limit = int8 * 7 / 10;
  const std::string recipe = inputs.scratch.file("r.yaml");
  const auto plan = planned(inputs.plan({"--size", std::to_string(limit), "--json", "-o", recipe}));
  CHECK(plan["measured"]["file"].get<uint64_t>() <= limit);
  CHECK(plan["size_budget"] == limit);
  CHECK(plan["choice"]["memory"] == "loaded");
  CHECK_THAT(plan["recipe"].dump(), Contains("lut"));
  const uint64_t made = size_of_file({"--recipe", recipe, "--calibration", inputs.text});
  CHECK(made <= limit);
  CHECK(made + 4096 > plan["predicted"]["file"].get<uint64_t>());
  // Its codes were learnt from text.
  const RunResult without = run("rwkv-press", {"convert", inputs.model, "-o", packed, "--force",
                                               "--recipe", recipe, "--vocab", "bytes", "--quiet"});
  CHECK(without.exit_code == 2);
  CHECK_THAT(without.err, Contains("--calibration"));
}

TEST_CASE("plan --fit says what it takes, refuses what cannot fit, and need not pack",
          "[cli][plan]") {
  const Inputs inputs;
  Arguments plan = inputs.plan({"--fit", "700kB", "--set", "budget.losses=estimated", "--set",
                                "budget.check=none", "-o", inputs.scratch.file("r.yaml")});
  plan.erase(std::find(plan.begin(), plan.end(), "--quiet"));
  const RunResult told = run("rwkv-press", plan);
  INFO(told.err);
  REQUIRE(told.exit_code == 0);
  for (const char* stage : {"gradients", "matrices", "predictors", "head", "search", "in all"}) {
    CHECK_THAT(told.err, Contains(stage));
  }
  CHECK_THAT(told.out, Contains("not packed and measured"));
  std::ifstream recipe(inputs.scratch.file("r.yaml"));
  std::string first;
  std::getline(recipe, first);
  CHECK_THAT(first, Contains("predicted, not measured"));

  const auto json = planned(inputs.plan({"--fit", "700kB", "--json", "--set",
                                         "budget.losses=estimated", "--set", "budget.check=none"}));
  CHECK_FALSE(json.contains("measured"));
  CHECK(json["predicted"]["resident"].get<uint64_t>() <= 700'000);

  const RunResult refused =
      run("rwkv-press", inputs.plan({"--fit", "700kB", "--max-memory", "1MB"}));
  CHECK(refused.exit_code == 2);
  CHECK_THAT(refused.err, Contains("--ignore-estimate"));
}

TEST_CASE("A measurement that was killed goes on", "[cli][plan]") {
  const Inputs inputs;
  const std::string curves = inputs.scratch.file("curves.json");
  const Arguments plan = inputs.plan({"--size", "400kB", "--json", "--curves", curves});
  const auto whole = planned(inputs.plan({"--size", "400kB", "--json"}));
  Process process(inputs.scratch, "plan", plan);
  const auto n_measured = [&]() -> size_t {
    std::ifstream file(curves);
    const auto json = nlohmann::json::parse(file, nullptr, false);
    return json.is_object() ? json["matrices"].size() : 0;
  };
  CHECK(wait_until([&] { return n_measured() >= 2; }));
  process.send(SIGKILL);
  process.wait();
  const size_t before = n_measured();
  CHECK(planned(plan)["recipe"] == whole["recipe"]);
  CHECK(n_measured() >= before);
}

TEST_CASE("convert plans a recipe with a budget", "[cli][plan]") {
  const Inputs inputs;
  const std::string recipe = inputs.scratch.file("budget.yaml");
  const std::string packed = inputs.scratch.file("m.gguf");
  write_text(recipe,
             "budget: {resident: 100MB, samples: 4}\ncalibration: {samples: 16, length: 64}\n");
  const Arguments convert = {"convert",       inputs.model, "-o",      packed,
                             "--recipe",      recipe,       "--vocab", "bytes",
                             "--calibration", inputs.text,  "--quiet"};
  const RunResult converted = run("rwkv-press", convert);
  INFO(converted.err);
  REQUIRE(converted.exit_code == 0);
  const RunResult inspected = run("rwkv-edge", {"inspect", packed, "--json"});
  REQUIRE(inspected.exit_code == 0);
  CHECK_THAT(inspected.out, Contains("f16"));
  CHECK_THAT(inspected.out, !Contains("i8_row"));
}

TEST_CASE("plan --fit refuses what cannot be", "[cli][plan]") {
  const Inputs inputs;
  const auto refused = [&](const Arguments& arguments, const std::string& says) {
    const RunResult result = run("rwkv-press", inputs.plan(arguments));
    INFO(result.err);
    CHECK(result.exit_code == 2);
    CHECK_THAT(result.err, Contains(says));
  };
  refused({"--fit", "10kB"}, "the smallest that can is");
  refused({"--fit", "lots"}, "64MB");
  refused({"--size", "10kB"}, "a file of 10000 bytes cannot be made; the smallest that can is");
  refused({"--size", "lots"}, "--size");
  refused({"--size", "2MB", "--fit", "10kB"}, "a budget of 10000 bytes cannot be met");
  refused({"--size", "2MB", "--recipe", "r.yaml"}, "--recipe");
  refused({"--fit", "2MB", "--preset", "int8"}, "--preset");
  refused({"--fit", "2MB", "--set", "budget.memry=sparse"}, "did you mean 'memory'?");
  refused({"--preset", "int8"}, "--fit");
}
