// The stages of RWKV-Lite from checkpoint to runtime: what must be lossless is, bad recipes are
// refused before work starts, and a compressed model predicts text as well as it should.
#include <cmath>
#include <cstring>
#include <fstream>

#include "compressor/calibrate/statistics.h"
#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/sealed_file.h"
#include "compressor/low_rank/factorise.h"
#include "compressor/low_rank/ranks.h"
#include "compressor/model/block.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/pipeline/pipeline.h"
#include "formats/arch/versions.h"
#include "formats/container/safetensors_reader.h"
#include "runtime/text/scoring.h"
#include "tests/compressor/demo_model.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

using namespace rwkv;
using namespace rwkv::test;

namespace {

Conversion with(const std::string& stages, const std::string& text) {
  Conversion how;
  how.recipe = "name: test\ncalibration: {samples: 16, length: 64}\nstages:\n" + stages;
  how.vocab = "bytes";
  how.texts = {text};
  return how;
}

std::vector<int32_t> prompt() {
  std::vector<int32_t> tokens;
  for (const char c : std::string("3 times 4 makes 12; 5 times 5 makes 25; ")) {
    tokens.push_back(static_cast<unsigned char>(c));
  }
  return tokens;
}

// A trained model, text to learn from, and ids of other text.
struct Trained {
  std::string checkpoint, vocabulary, seen;
  std::vector<int32_t> unseen;
  bool is_plain_text = false;
};

// One of bytes from the test data; without them the demo model.
Trained trained_model(const ScratchFolder& scratch) {
  constexpr size_t kScored = 20000;
  const auto checkpoint = test_data("models/tiny-rwkv-5v2-730K-FP32.bin", "tiny trained model");
  const auto text = test_data("text/alpaca_data-subset134k.json", "text of the tiny model");
  Trained found;
  if (!checkpoint || !text) {
    const DemoModel demo = demo_model(scratch, 2000, 100);
    found = {demo.checkpoint, demo.vocabulary, demo.train, {}, false};
    auto vocabulary = read_vocabulary_file(demo.vocabulary);
    REQUIRE_OK(vocabulary.status());
    auto tokenizer = make_tokenizer(vocabulary.value());
    REQUIRE_OK(tokenizer.status());
    const std::vector<std::byte> stories = read_bytes(demo.test);
    REQUIRE_OK(tokenizer.value()->encode(
        {reinterpret_cast<const char*>(stories.data()), stories.size()}, found.unseen));
    return found;
  }
  const std::vector<std::byte> bytes = read_bytes(*text);
  found = {*checkpoint, "bytes", scratch.file("first.txt"), {}, true};
  write_bytes(found.seen, std::span(bytes).first(bytes.size() / 2));
  for (size_t i = bytes.size() / 2; i < bytes.size() / 2 + kScored; ++i) {
    found.unseen.push_back(static_cast<int32_t>(bytes[i]));
  }
  return found;
}

const std::vector<std::string> kArchs = {"v4", "v5.0", "v5.1", "v5.2", "v6", "v7", "x058", "x059"};

}  // namespace

TEST_CASE("Every stage works on every version, and without loss where nothing is left out",
          "[lite]") {
  const ScratchFolder scratch;
  const std::string text = write_text(scratch, 8000);
  for (const std::string& arch : kArchs) {
    INFO(arch);
    const std::string input = write_synth(scratch, arch);
    const auto logits = [&](const Conversion& how) {
      const std::string output = scratch.file("m.gguf");
      std::remove(output.c_str());
      const auto model = convert_and_open(input, output, how);
      return all_logits(model, prompt(), 7);
    };
    const std::vector<float> dense = logits({"fp32", "bytes", {}});
    // Full rank gives the dense model back.
    CHECK(max_difference(logits(with("  - low_rank: {factor: 1}\n", text)), dense) < 1e-3);
    // All clusters read: not a bit differs. The more energy predictors must find, the less does.
    CHECK(
        (logits(with("  - cluster_head: {clusters: 10, k_min: 10, p_min: 1.0}\n", text)) == dense));
    const auto sparse = [&](double recall) {
      return max_difference(
          logits(
              with(fmt::format("  - ffn_predictor: {{recall: {}, kinds: sign}}\n", recall), text)),
          dense);
    };
    CHECK(sparse(0.999) < sparse(0.5));
    // Rows of a few bits do not pay for sign bits of all neurons beside an MLP of two.
    const auto predictors_of = [&](const std::string& keys) {
      const std::string output = scratch.file("auto.gguf");
      std::remove(output.c_str());
      REQUIRE_OK(convert(
          input, output,
          with("  - ffn_predictor: {recall: 0.9, hidden: 2, epochs: 3, " + keys + "}\n", text)));
      const std::vector<std::byte> bytes = read_bytes(output);
      const std::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      const auto has = [&](const char* half) {
        return file.find(std::string("blocks.0.ffn.predictor.") + half) != file.npos;
      };
      return std::pair(has("sign.weight"), has("fc1.weight"));
    };
    CHECK((predictors_of("kinds: auto, row_bits: 1") == std::pair(false, true)));
    CHECK(predictors_of("kinds: both").first);
    // What stages added goes away when the packed file is read as a checkpoint again.
    const std::string lossless = scratch.file("lossless.gguf");
    std::remove(lossless.c_str());
    REQUIRE_OK(convert(
        input, lossless,
        with("  - cluster_head: {clusters: 10}\n  - ffn_predictor: {kinds: sign}\n", text)));
    const std::string again = scratch.file("again.gguf");
    std::remove(again.c_str());
    CHECK((all_logits(convert_and_open(lossless, again, {"fp32", "bytes", {}}), prompt(), 7) ==
           dense));
    // All of it together, in int8, is finite and says something else.
    const std::vector<float> lite =
        logits(with("  - low_rank: {factor: 4}\n  - cluster_head: {clusters: 10}\n"
                    "  - ffn_predictor: {hidden: 16, epochs: 3}\n"
                    "  - quantize: {codec: i8_row, lora_codec: i8_row, min_numbers: 0}\n",
                    text));
    CHECK(std::all_of(lite.begin(), lite.end(), [](float x) { return std::isfinite(x); }));
    CHECK(max_difference(lite, dense) > 0);
  }
}

TEST_CASE("A pair without a diagonal is linear, next to enhanced pairs too", "[lite]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "x059");
  auto checkpoint = press::open_checkpoint(input);
  REQUIRE_OK(checkpoint.status());
  auto model = press::identify_checkpoint(*checkpoint.value().source);
  REQUIRE_OK(model.status());
  auto edited = press::EditedSource::create(*checkpoint.value().source, scratch.file(""));
  REQUIRE_OK(edited.status());
  const std::vector<float> factor(128 * 4, 0.5f);
  REQUIRE_OK(edited.value()->put("blocks.0.att.output1.weight", {4, 128}, factor));
  REQUIRE_OK(edited.value()->put("blocks.0.att.output2.weight", {128, 4}, factor));
  edited.value()->remove("blocks.0.att.output.weight");
  auto block = press::Block::load(*edited.value(), model.value().config, 0);
  REQUIRE_OK(block.status());
  CHECK_FALSE(block.value()->linears["att.output"].squares);
  CHECK(block.value()->linears["att.key"].squares);
}

TEST_CASE("Rows of a tensor that a stage has put can be put into another order", "[lite]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2");
  auto checkpoint = press::open_checkpoint(input);
  REQUIRE_OK(checkpoint.status());
  auto edited = press::EditedSource::create(*checkpoint.value().source, scratch.file(""));
  REQUIRE_OK(edited.status());
  REQUIRE_OK(edited.value()->put("trained", {3, 2}, std::vector<float>{0, 1, 2, 3, 4, 5}));
  REQUIRE_OK(edited.value()->permute_rows("trained", {2, 0, 1}));
  std::vector<std::byte> bytes;
  REQUIRE_OK(edited.value()->read(edited.value()->index_of("trained").value(), bytes));
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  CHECK((values == std::vector<float>{4, 5, 0, 1, 2, 3}));
  CHECK_FALSE(edited.value()->permute_rows("trained", {1, 0}).ok());
}

TEST_CASE("The same recipe, text and seed give the same bytes", "[lite]") {
  const ScratchFolder scratch;
  const std::string text = write_text(scratch, 8000);
  const std::string input = write_synth(scratch, "v6");
  const Conversion how = with(
      "  - low_rank: {factor: 4}\n  - cluster_head: {clusters: 10}\n"
      "  - ffn_predictor: {hidden: 16, epochs: 2}\n  - quantize: {codec: i8_row}\n",
      text);
  REQUIRE_OK(convert(input, scratch.file("a.gguf"), how));
  REQUIRE_OK(convert(input, scratch.file("b.gguf"), how));
  CHECK((read_bytes(scratch.file("a.gguf")) == read_bytes(scratch.file("b.gguf"))));
}

TEST_CASE("Whitened low rank loses less output energy than the plain SVD on every matrix",
          "[lite]") {
  at::manual_seed(3);
  for (const auto& [rows, cols] : {std::pair{64, 64}, std::pair{96, 48}, std::pair{40, 120}}) {
    const at::Tensor w = at::randn({rows, cols});
    // Inputs with directions of very different size, as activations have.
    const at::Tensor x = at::mm(at::randn({400, cols}) * at::linspace(0.05, 3.0, cols).square(),
                                at::randn({cols, cols}) / std::sqrt(static_cast<double>(cols)));
    const at::Tensor h = at::mm(x.t(), x) / 400;
    const int64_t full = std::min(rows, cols);
    double last = 1.0;
    for (const int64_t rank : {full / 8, full / 4, full / 2}) {
      const double plain = press::relative_error(w, press::factorise(w, {}, rank, 0).product(), h);
      const double white = press::relative_error(w, press::factorise(w, h, rank, 0).product(), h);
      CHECK(white < plain);
      CHECK(white < last);
      last = white;
      // No rank-r matrix does better: the lost share is that of the dropped eigenvalues.
      const at::Tensor energies = press::output_energies(w, h);
      const double lost = energies.narrow(0, rank, rows - rank).sum().item<double>() /
                          energies.sum().item<double>();
      CHECK(white == Approx(lost).epsilon(1e-2).margin(1e-6));
    }
    CHECK(press::relative_error(w, press::factorise(w, h, full, 0).product(), h) < 1e-6);
  }
  // A diagonal never hurts, and finds one that is there.
  const at::Tensor d = at::rand({64}) + 1;
  const at::Tensor low = at::mm(at::randn({64, 4}), at::randn({4, 64}));
  const at::Tensor w = low + at::diag(d);
  const auto factors = press::factorise_with_diagonal(w, {}, 4, 200, 0);
  CHECK(press::relative_error(w, factors.product(), {}) <
        0.5 * press::relative_error(w, press::factorise(w, {}, 4, 0).product(), {}));
}

TEST_CASE("Factorising by iteration is as good as exactly", "[lite]") {
  at::manual_seed(5);
  const int64_t n = 1100;  // beyond what is solved exactly
  const at::Tensor w = at::mm(at::randn({n, n}) / at::linspace(1, n, n).pow(0.4),
                              at::randn({n, n}) / std::sqrt(static_cast<double>(n)));
  const at::Tensor energies = press::output_energies(w, {});
  const int64_t rank = n / 8;
  const double best =
      energies.narrow(0, rank, n - rank).sum().item<double>() / energies.sum().item<double>();
  const double found = press::relative_error(w, press::factorise(w, {}, rank, 0).product(), {});
  CHECK(found < 1.01 * best);
}

TEST_CASE("Ranks by energy and by budget", "[lite]") {
  const at::Tensor energies = at::tensor({8.0, 4.0, 2.0, 1.0, 1.0}, at::kDouble);
  CHECK(press::rank_for_energy(energies, 0.5) == 1);
  CHECK(press::rank_for_energy(energies, 0.74) == 2);
  CHECK(press::rank_for_energy(energies, 0.75) == 2);
  CHECK(press::rank_for_energy(energies, 0.76) == 3);
  CHECK(press::rank_for_energy(energies, 1.0) == 5);
  // The second matrix is all in its first direction; ranks go to the first.
  const at::Tensor steep = at::tensor({16.0, 0.0, 0.0, 0.0, 0.0}, at::kDouble);
  const std::vector<int64_t> ranks =
      press::ranks_for_budget({{energies, 5, 5}, {steep, 5, 5}}, 0.8);
  CHECK(ranks == std::vector<int64_t>{3, 1});
}

TEST_CASE("Statistics are reused, and refused for another model", "[lite]") {
  const ScratchFolder scratch;
  const std::string text = write_text(scratch, 8000);
  const std::string input = write_synth(scratch, "v5.2");
  auto checkpoint = press::open_checkpoint(input);
  REQUIRE_OK(checkpoint.status());
  const auto model = press::identify_checkpoint(*checkpoint.value().source);
  press::CalibrationOptions options;
  options.texts = {text};
  options.samples = 16;
  options.length = 64;
  auto calibration = press::sample_texts(options, Vocabulary{}, model.value().config);
  REQUIRE_OK(calibration.status());
  const std::string stats = scratch.file("stats.safetensors");
  REQUIRE_OK(press::write_statistics(*checkpoint.value().source, model.value().config,
                                     calibration.value(), stats, OutputFile::Existing::Refuse,
                                     [](double) {}));
  const std::string stages = "  - low_rank: {factor: 4, sequential: false}\n";
  Conversion from_text = with(stages, text);
  Conversion from_stats = with(stages, text);
  from_stats.texts.clear();
  from_stats.statistics = stats;
  REQUIRE_OK(convert(input, scratch.file("a.gguf"), from_text));
  REQUIRE_OK(convert(input, scratch.file("b.gguf"), from_stats));
  CHECK((read_bytes(scratch.file("a.gguf")) == read_bytes(scratch.file("b.gguf"))));

  const std::vector<std::byte> bytes = read_bytes(stats);
  for (size_t i = 0; i < 20; ++i) {
    std::vector<std::byte> flipped = bytes;
    flipped[i * (bytes.size() - 1) / 19] ^= std::byte{1} << (i % 8);
    write_bytes(scratch.file("flipped.safetensors"), flipped);
    from_stats.statistics = scratch.file("flipped.safetensors");
    const Status damaged = convert(input, scratch.file("c.gguf"), from_stats);
    CHECK(damaged.code() == Code::BadInput);
    CHECK_THAT(damaged.message(), Catch::Contains("flipped.safetensors: expected the checksum"));
  }
  from_stats.statistics = stats;

  const std::string other = write_synth(scratch, "v5.1");
  const Status refused = convert(other, scratch.file("c.gguf"), from_stats);
  CHECK(refused.code() == Code::Usage);
  CHECK_THAT(refused.message(), Catch::Contains("another") || Catch::Contains("XXH64"));
}

TEST_CASE("Statistics whose tensors do not fit the model are refused", "[lite]") {
  const ScratchFolder scratch;
  const std::string input = write_synth(scratch, "v5.2");
  auto checkpoint = press::open_checkpoint(input);
  REQUIRE_OK(checkpoint.status());
  const auto model = press::identify_checkpoint(*checkpoint.value().source);
  press::CalibrationOptions options;
  options.texts = {write_text(scratch, 8000)};
  options.samples = 4;
  options.length = 32;
  auto calibration = press::sample_texts(options, Vocabulary{}, model.value().config);
  REQUIRE_OK(calibration.status());
  const std::string good = scratch.file("good.safetensors");
  REQUIRE_OK(press::write_statistics(*checkpoint.value().source, model.value().config,
                                     calibration.value(), good, OutputFile::Existing::Refuse,
                                     [](double) {}));
  const auto source = open_safetensors(good);
  REQUIRE_OK(source.status());
  // What is done to the tensor of this name, and what the message says.
  struct Case {
    std::string name;
    bool is_cut;  ///< the shape, else the first value is not a number (and all are f32)
    std::string message;
  };
  const std::string moments = "blocks.0.att.key.moments";
  for (const Case& wrong :
       {Case{moments, true, "does not fit"}, Case{moments, false, "not finite"},
        Case{"tokens", false, "not finite"}, Case{"frequencies", true, "does not fit"}}) {
    std::vector<TensorInfo> infos = source.value()->tensors();
    infos.pop_back();  // the checksum
    for (TensorInfo& info : infos) {
      if (info.name == wrong.name) {
        info.dtype = DType::F32;
        info.shape.front() -= wrong.is_cut ? 1 : 0;
      }
    }
    const std::string bad = scratch.file("bad.safetensors");
    REQUIRE_OK(press::write_sealed(bad, OutputFile::Existing::Replace, infos,
                                   [&](size_t i, std::vector<std::byte>& out) {
                                     const Status status = source.value()->read(i, out);
                                     out.resize(infos[i].n_bytes());
                                     if (infos[i].name == wrong.name && !wrong.is_cut) {
                                       const float not_a_number = std::nanf("");
                                       std::memcpy(out.data(), &not_a_number, sizeof(float));
                                     }
                                     return status;
                                   }));
    Conversion from_stats = with("  - low_rank: {factor: 4, sequential: false}\n", "");
    from_stats.texts.clear();
    from_stats.statistics = bad;
    const Status refused = convert(input, scratch.file("refused.gguf"), from_stats);
    INFO(wrong.name << ": " << refused.message());
    CHECK(refused.code() == Code::BadInput);
    CHECK_THAT(refused.message(), Catch::Contains(wrong.name) && Catch::Contains(wrong.message));
  }
}

TEST_CASE("Bad recipes are refused before work starts", "[lite]") {
  const ScratchFolder scratch;
  const std::string text = write_text(scratch, 8000);
  const std::string input = write_synth(scratch, "v7");
  const auto refusal = [&](const std::string& stages, const std::string& calibration) {
    const std::string output = scratch.file("refused.gguf");
    const Status status = convert(input, output, with(stages, calibration));
    INFO(stages << status.message());
    CHECK(status.code() == Code::Usage);
    CHECK_FALSE(std::ifstream(output).good());
    return status.message();
  };
  using Catch::Contains;
  CHECK_THAT(refusal("  - low_rank: {factor: 0.5}\n", text), Contains("from 1 to"));
  CHECK_THAT(refusal("  - low_rank: {matrices: [ffn.receptance]}\n", text),
             Contains("no projection 'ffn.receptance'"));
  CHECK_THAT(refusal("  - low_rank: {methd: svd}\n", text), Contains("method"));
  CHECK_THAT(refusal("  - low_rank: {method: svc}\n", text), Contains("svd"));
  CHECK_THAT(refusal("  - cluster_head: {clusters: 300}\n", text), Contains("256"));
  CHECK_THAT(refusal("  - cluster_head: {k_min: 5, k_max: 4}\n", text), Contains("k_max"));
  CHECK_THAT(refusal("  - ffn_predictor: {recall: 1.5}\n", text), Contains("recall"));
  CHECK_THAT(refusal("  - quantize: {codec: sign_row}\n", text), Contains("sign_row"));
  CHECK_THAT(refusal("  - quantize: {quantizer: nearst}\n", text), Contains("nearest"));
  CHECK_THAT(refusal("  - quantize\n  - low_rank\n", text), Contains("order"));
  CHECK_THAT(refusal("  - low_rank\n", write_text(scratch, 500)), Contains("500 tokens"));
  CHECK_THAT(refusal("  - low_rank\n", write_text(scratch, 0)), Contains("empty"));
}

// Bits per token of text that calibration did not see. Every figure is in docs/quality.md. The demo
// model is asked about rare words, which whitening counts for little: there plain is the better.
TEST_CASE("On a trained model of plain text whitened low rank beats plain", "[lite]") {
  const ScratchFolder scratch;
  const Trained trained = trained_model(scratch);
  const auto bits = [&](const Conversion& how) {
    const std::string output = scratch.file("m.gguf");
    std::remove(output.c_str());
    const auto model = convert_and_open(trained.checkpoint, output, how);
    edge::Evaluator evaluator(model, {1, 32});
    auto score = edge::score_tokens(
        evaluator, trained.unseen, [](int32_t) { return uint64_t{1}; }, [](uint64_t) {});
    REQUIRE_OK(score.status());
    return score.value().bits_per_byte();
  };
  const auto low_rank = [&](const std::string& options) {
    Conversion how = with(fmt::format("  - low_rank: {{{}}}\n", options), trained.seen);
    how.vocab = trained.vocabulary;
    return bits(how);
  };
  const double dense = bits({"fp32", trained.vocabulary, {}});
  for (const int factor : {2, 8}) {
    const double plain = low_rank(fmt::format("method: svd, factor: {}", factor));
    const double white = low_rank(fmt::format("factor: {}", factor));
    fmt::print("{} k = {}: dense {:.4f}, plain {:.4f}, whitened {:.4f}\n", trained.checkpoint,
               factor, dense, plain, white);
    CHECK((white < plain || !trained.is_plain_text));
    CHECK(white > dense);
    CHECK(plain > dense);
  }
}
