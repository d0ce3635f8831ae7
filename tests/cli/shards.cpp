// Files with narrower copies of rows, as users make and use them.
#include <nlohmann/json.hpp>

#include "tests/cli/run.h"
#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv::test;
using Catch::Contains;

namespace {

RunResult good(const std::string& program, const std::vector<std::string>& arguments) {
  const RunResult result = run(program, arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

struct Elastic {
  ScratchFolder scratch;
  std::string model = scratch.file("m.pth");
  std::string text = scratch.file("text.txt");
  std::string plain = scratch.file("plain.gguf");
  std::string packed = scratch.file("elastic.gguf");

  Elastic() {
    good("rwkv-press", {"synth", "--arch", "v6", "--n-layer", "2", "--n-embd", "128", "--n-vocab",
                        "256", "--quiet", "-o", model});
    std::string numbers;
    for (int i = 0; i < 2000; ++i) {
      numbers += std::to_string(i) + "\n";
    }
    write_text(text, numbers);
    good("rwkv-press",
         {"convert", model, "-o", plain, "--preset", "int8", "--vocab", "bytes", "--quiet"});
    good("rwkv-press", convert(packed));
  }

  std::vector<std::string> convert(const std::string& output) const {
    return {"convert",
            model,
            "-o",
            output,
            "--preset",
            "elastic",
            "--vocab",
            "bytes",
            "--quiet",
            "--calibration",
            text,
            "--set",
            "shards.piece_kb=8",
            "--set",
            "calibration.samples=8",
            "--set",
            "calibration.length=64"};
  }
};

}  // namespace

TEST_CASE("A file with narrower copies is made, shown and used", "[shards]") {
  const Elastic files;
  const auto text_of = [](const std::string& model, const std::string& memory) {
    return good("rwkv-edge", {"generate", model, "-p", "12", "-n", "12", "--temperature", "0",
                              "--memory", memory})
        .out;
  };
  const std::string expected = text_of(files.plain, "full");
  CHECK(text_of(files.packed, "full") == expected);
  CHECK(text_of(files.packed, "loaded") == expected);

  for (const char* program : {"rwkv-edge", "rwkv-press"}) {
    const std::string shown = good(program, {"inspect", files.packed, "--tensors", "--verify"}).out;
    CHECK_THAT(shown, Contains("widths ") && Contains(" pieces, also lut5 (") &&
                          Contains("blocks.0.att.key.weight@lut4") && Contains("verified"));
    const auto report =
        nlohmann::json::parse(good(program, {"inspect", files.packed, "--json"}).out);
    const auto plain = nlohmann::json::parse(good(program, {"inspect", files.plain, "--json"}).out);
    CHECK(report["tensors"].size() == plain["tensors"].size());
    CHECK(report["n_parameters"] == plain["n_parameters"]);
    CHECK(report["widths"]["copy_bytes"] > 0);
  }

  const auto bytes = read_bytes(files.packed + ".report.json");
  const auto report =
      nlohmann::json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  CHECK(report["copies"].size() > 8);
  CHECK(report["copies"][0]["losses"].size() == report["copies"][0]["pieces"].size());
}

TEST_CASE("A damaged narrower copy is found", "[shards]") {
  const Elastic files;
  const auto report =
      nlohmann::json::parse(good("rwkv-press", {"inspect", files.packed, "--json"}).out);
  const auto& copy = report["copies"][0];
  auto bytes = read_bytes(files.packed);
  bytes[copy["offset"].get<size_t>() + copy["bytes"].get<size_t>() - 1] ^= std::byte{1};
  write_bytes(files.packed, bytes);
  for (const char* program : {"rwkv-edge", "rwkv-press"}) {
    const RunResult found = run(program, {"inspect", files.packed, "--verify"});
    CHECK(found.exit_code == 3);
    CHECK_THAT(found.err, Contains(copy["name"].get<std::string>()));
  }
}

TEST_CASE("Plan says what narrower copies take", "[shards]") {
  const Elastic files;
  std::vector<std::string> arguments = {"plan",    files.model,       "--preset",
                                        "elastic", "--set",           "shards.piece_kb=8",
                                        "--set",   "shards.points=[]"};
  CHECK_THAT(good("rwkv-press", arguments).out,
             Contains("blocks.0.att.key.weight@lut4") && Contains("of narrower rows besides"));
  arguments.emplace_back("--json");
  const auto plan = nlohmann::json::parse(good("rwkv-press", arguments).out);
  uint64_t bytes = 0;
  for (const auto& copy : plan["copies"]) {
    bytes += copy["bytes"].get<uint64_t>();
  }
  CHECK(plan["copy_bytes"] == bytes);
  CHECK(bytes > 0);
}

TEST_CASE("Narrower widths are evaluated on texts", "[shards]") {
  const Elastic files;
  const auto kl = [&](const std::vector<std::string>& more, const char* reference) {
    std::vector<std::string> arguments = {"eval",        files.packed, "--text",       files.text,
                                          "--reference", reference,    "--max-tokens", "200",
                                          "--quiet",     "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return nlohmann::json::parse(good("rwkv-press", arguments).out)[0];
  };
  CHECK(kl({}, files.plain.c_str())["texts"][0]["kl"].get<double>() == 0);
  const auto three = kl({"--most-bits", "3"}, files.plain.c_str());
  const auto five = kl({"--most-bits", "5"}, files.plain.c_str());
  CHECK(three["texts"][0]["kl"].get<double>() > five["texts"][0]["kl"].get<double>());
  CHECK(five["texts"][0]["kl"].get<double>() > 0);
  const uint64_t budget = five["widths"]["bytes"].get<uint64_t>();
  const auto chosen = kl({"--weight-bytes", std::to_string(budget)}, files.plain.c_str());
  CHECK(chosen["widths"]["bytes"].get<uint64_t>() <= budget);
  CHECK(chosen["widths"]["expected_loss"].get<double>() <=
        1.1 * five["widths"]["expected_loss"].get<double>());

  const RunResult refused = run(
      "rwkv-press", {"eval", files.packed, "--most-bits", "3", "--cloze", files.text, "--quiet"});
  CHECK(refused.exit_code != 0);
}
