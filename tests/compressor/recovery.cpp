// The stages that win back what compression cost: refit, train, external.
#include <cmath>
#include <filesystem>
#include <fstream>

#include "compressor/checkpoint/open.h"
#include "compressor/model/network.h"
#include "compressor/numerics/tensor_ops.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

constexpr uint64_t kWidth = 64;
constexpr size_t kTextBytes = 12000;

std::vector<int32_t> prompt() {
  std::vector<int32_t> tokens;
  for (const char c : std::string("3 times 4 makes 12; 5 times 5 makes 25; 16 times 2 makes ")) {
    tokens.push_back(static_cast<unsigned char>(c));
  }
  return tokens;
}

// Mean KL divergence of b's answers from a's, nats per token.
double divergence(const std::vector<float>& a, const std::vector<float>& b) {
  const auto rows = [](const std::vector<float>& logits) {
    const at::Tensor all = at::from_blob(const_cast<float*>(logits.data()),
                                         {static_cast<int64_t>(logits.size()) / 256, 256});
    return at::log_softmax(all.to(at::kDouble), 1);
  };
  const at::Tensor p = rows(a);
  return (p.exp() * (p - rows(b))).sum(1).mean().item<double>();
}

// Converts in folders of its own, since trainings refuse to start where one has been.
class Lab {
 public:
  explicit Lab(const std::string& arch) : input_(write_synth(scratch_, arch, kWidth)) {
    text_ = write_text(scratch_, kTextBytes);
  }
  Conversion recipe(const std::string& stages) {
    Conversion how;
    how.recipe = "name: test\ncalibration: {samples: 16, length: 64}\nstages:\n" + stages;
    how.vocab = "bytes";
    how.texts = {text_};
    how.train_data = {text_};
    how.allow_external = true;
    how.work = scratch_.file(fmt::format("work{}", ++n_));
    return how;
  }
  Status status(const Conversion& how) { return convert(input_, output(), how); }
  std::vector<float> logits(const std::string& stages) {
    const auto model = convert_and_open(input_, output(), recipe(stages));
    return all_logits(model, prompt(), 16);
  }
  std::string output() const { return scratch_.file(fmt::format("m{}.gguf", n_)); }
  const ScratchFolder& scratch() const { return scratch_; }

 private:
  ScratchFolder scratch_;
  std::string input_, text_;
  int n_ = 0;
};

constexpr const char* kPairs = "  - low_rank: {method: svd, factor: 8}\n";

}  // namespace

TEST_CASE("The network that is trained gives the runtime's logits", "[recovery][golden]") {
  const ScratchFolder scratch;
  std::vector<std::string> inputs;
  for (const char* arch : {"v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058", "x059"}) {
    inputs.push_back(write_synth(scratch, arch, kWidth));
  }
  for (const char* name : {"v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058"}) {
    const auto golden = test_data(fmt::format("golden/{}-A-bf16.pth", name), "parity of training");
    if (golden) {
      inputs.push_back(*golden);
    }
  }
  for (const std::string& input : inputs) {
    INFO(input);
    const auto model = convert_and_open(input, scratch.file("m.gguf"), {"fp32", "", {}});
    const std::vector<float> expected = all_logits(model, prompt(), 16);
    auto checkpoint = press::open_checkpoint(input);
    REQUIRE_OK(checkpoint.status());
    auto identified = press::identify_checkpoint(*checkpoint.value().source);
    REQUIRE_OK(identified.status());
    auto network =
        press::Network::load(*checkpoint.value().source, identified.value().config, nullptr);
    REQUIRE_OK(network.status());
    const std::vector<int32_t> tokens = prompt();
    const at::Tensor ids = at::empty({1, static_cast<int64_t>(tokens.size())}, at::kLong);
    std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>());
    const at::Tensor logits = network.value()->logits(ids).contiguous();
    const std::vector<float> found(logits.data_ptr<float>(),
                                   logits.data_ptr<float>() + logits.numel());
    CHECK(max_difference(found, expected) < 1e-3);
  }
}

TEST_CASE("Refit brings factor pairs nearer to the original", "[recovery]") {
  for (const std::string arch : {"v4", "v5.2", "v6", "v7"}) {
    INFO(arch);
    Lab lab(arch);
    const std::vector<float> dense = lab.logits("");
    const double without = divergence(dense, lab.logits(kPairs));
    const double with = divergence(dense, lab.logits(std::string(kPairs) + "  - refit\n"));
    CHECK(with < 0.9 * without);
    // Nothing to correct where nothing is lost.
    CHECK(divergence(dense, lab.logits("  - low_rank: {factor: 1}\n  - refit\n")) < 1e-4);
  }
}

TEST_CASE("Training brings a compressed model nearer to the original", "[recovery]") {
  for (const std::string arch : {"v5.2", "v7"}) {
    INFO(arch);
    Lab lab(arch);
    const std::vector<float> dense = lab.logits("");
    const double without = divergence(dense, lab.logits(kPairs));
    const std::string train =
        "  - train: {steps: 40, batch: 4, length: 64, lr: 2e-3, save_every: 20, parameters: ";
    const double factors =
        divergence(dense, lab.logits(std::string(kPairs) + train + "[factors]}\n"));
    CHECK(factors < 0.8 * without);
    const double all =
        divergence(dense, lab.logits(std::string(kPairs) + train + "[all], block_match: 0.1}\n"));
    CHECK(all < 0.8 * without);
  }
}

TEST_CASE("A recipe's training leaves its log and refuses to start over it", "[recovery]") {
  Lab lab("v5.2");
  Conversion how = lab.recipe(std::string(kPairs) +
                              "  - train: {steps: 6, batch: 2, length: 32, save_every: 3}\n");
  REQUIRE_OK(lab.status(how));
  for (const char* file : {"loss.csv", "loss.svg", "step-00000006.safetensors"}) {
    CHECK(std::filesystem::exists(std::filesystem::path(how.work) / file));
  }
  CHECK(lab.status(how).code() == Code::Usage);
  how.resume = true;
  REQUIRE_OK(lab.status(how));
}

TEST_CASE("A program of the user's own gets the model and gives it back", "[recovery]") {
  Lab lab("v5.2");
  const std::vector<float> expected = lab.logits(kPairs);
  const std::string copy = "  - external: {command: \"cp {input} {output}\", dtype: f32}\n";
  CHECK((lab.logits(kPairs + copy) == expected));
  CHECK((lab.logits(copy + kPairs) == expected));

  const auto message = [&](const std::string& command, const std::string& before = kPairs) {
    const Status status = lab.status(
        lab.recipe(before + fmt::format("  - external: {{command: \"{}\"}}\n", command)));
    CHECK_FALSE(status.ok());
    CHECK_FALSE(std::filesystem::exists(lab.output()));
    return std::string(status.message());
  };
  Conversion unseen = lab.recipe(copy);
  unseen.allow_external = false;
  CHECK_THAT(lab.status(unseen).message(), Catch::Contains("nobody has allowed"));
  CHECK_THAT(message("exit 7 # {input} {output}"), Catch::Contains("exit code 7"));
  CHECK_THAT(message("true {input} {output}"), Catch::Contains("did not write"));
  CHECK_THAT(message("head -c 100 {input} > {output}"), Catch::Contains("external-output.pth"));
  CHECK_THAT(message("cp {input} out"), Catch::Contains("{output}"));
  // Another model altogether.
  const std::string other = write_synth(lab.scratch(), "v5.1", kWidth);
  const std::string give_other = "cp " + other + " {output} # {input}";
  CHECK_THAT(message(give_other), Catch::Contains("att.key1.weight' is missing"));
  CHECK_THAT(message(give_other, ""), Catch::Contains("in another shape"));
  CHECK(lab.status(lab.recipe("  - cluster_head: {clusters: 10}\n" + copy)).code() == Code::Usage);
  CHECK(lab.status(lab.recipe("  - low_rank: {factor: 4, diagonal: true}\n" + copy)).code() ==
        Code::Usage);
}

TEST_CASE("Recipes whose training cannot be are refused before work starts", "[recovery]") {
  Lab lab("v5.2");
  for (const char* stages : {"  - refit\n", "  - train: {parameters: [factors]}\n",
                             "  - train: {parameters: [nothing*]}\n", "  - train: {lr: -1}\n",
                             "  - train: {batch: 5, micro_batch: 2}\n", "  - train: {steps: 0}\n",
                             "  - external\n", "  - train: {precision: fp8}\n"}) {
    INFO(stages);
    CHECK(lab.status(lab.recipe(stages)).code() == Code::Usage);
  }
}
