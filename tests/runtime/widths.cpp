// Models whose file has several widths: every choice computes what a file packed so computes,
// within its bytes, from the first token on, while widths are raised, and after planning again.
#include <algorithm>
#include <set>

#include "runtime/memory/stream_times.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

using Catch::Contains;
using test::TinyModelOptions;

constexpr double kReadSpeed = 1e6;

TinyModelOptions several_widths(Version version = Version::V7) {
  TinyModelOptions options = {.version = version, .codec = Codec::U6};
  options.n_layer = 3;
  options.n_embd = 128;
  options.n_head = 2;
  options.dim_ffn = 192;
  options.n_vocab = 320;
  options.narrow = {Codec::Lut4, Codec::Lut3};
  return options;
}

// A file that is written once and opened often.
struct TinyFile {
  explicit TinyFile(const TinyModelOptions& options)
      : path(test::write_tiny_model(folder, options)) {}
  std::shared_ptr<const Model> open(const MemoryOptions& memory = mapped()) const {
    auto model = Model::open(path, memory);
    REQUIRE_OK(model.status());
    return model.take();
  }
  Status refusal(const MemoryOptions& memory) const { return Model::open(path, memory).status(); }
  test::ScratchFolder folder;
  std::string path;
};

MemoryOptions streamed() {
  MemoryOptions options;
  options.mode = MemoryMode::Streamed;
  options.max_chunk = 4;
  return options;
}

std::vector<float> logits_of(const Model& model, Evaluator& evaluator, State& state,
                             std::span<const int32_t> tokens) {
  std::vector<float> logits(tokens.size() * model.config().n_vocab);
  REQUIRE_OK(evaluator.forward(tokens, state, Logits::All, logits));
  return logits;
}

std::vector<float> logits_of(const std::shared_ptr<const Model>& model, size_t n = 18) {
  Evaluator evaluator(model, {.n_threads = 2, .max_chunk = 4});
  State state = model->empty_state();
  return logits_of(*model, evaluator, state, prompt_of(n));
}

std::set<std::string> codecs_of(const Model& model) {
  std::set<std::string> codecs;
  for (const PlacedPiece& piece : model.weights().residency().pieces) {
    codecs.insert(piece.source.n_bytes == 0 ? "none" : codec_traits(piece.source.view.codec).name);
  }
  return codecs;
}

// Pieces that are left out have their rows, too.
bool has_all_rows(const Model& model) {
  const Residency& residency = model.weights().residency();
  for (size_t i = 0; i < residency.tensors.size(); ++i) {
    const TensorResidence& tensor = residency.tensors[i];
    uint64_t row = 0;
    for (size_t p = tensor.first_piece; p < tensor.first_piece + tensor.n_pieces; ++p) {
      if (residency.pieces[p].first_row != row) {
        return false;
      }
      row += residency.pieces[p].source.view.rows;
    }
    if (tensor.n_pieces > 0 && row != model.weights().tensors()[i].rows) {
      return false;
    }
  }
  return true;
}

TEST_CASE("Without a reason to be narrower, all pieces have their full width", "[widths]") {
  for (const Version version : {Version::V5_2, Version::V6, Version::V7}) {
    const TinyModelOptions options = several_widths(version);
    TinyModelOptions plain = options;
    plain.narrow.clear();
    const TinyFile file(options);
    const TinyFile plain_file(plain);
    const auto expected = bits_of(logits_of(plain_file.open()));
    for (const ModeTraits& mode : mode_list()) {
      INFO(mode.name);
      MemoryOptions memory;
      memory.mode = mode.mode;
      const auto model = file.open(memory);
      CHECK(bits_of(logits_of(model)) == expected);
      CHECK(model->weights().total_bytes() == plain_file.open()->weights().total_bytes());
    }
    MemoryOptions memory = streamed();
    memory.limit = file.open(streamed())->weights().account().total() + 150'000;
    CHECK(bits_of(logits_of(file.open(memory))) == expected);
  }
}

TEST_CASE("Pieces at one width compute what a file of that width computes", "[widths]") {
  for (const Version version : {Version::V5_2, Version::V6, Version::V7}) {
    const TinyModelOptions options = several_widths(version);
    const TinyFile file(options);
    for (const Codec codec : {Codec::Lut4, Codec::Lut3}) {
      INFO(codec_traits(codec).name);
      TinyModelOptions plain = options;
      plain.narrow.clear();
      plain.codec = codec;
      plain.embedding = Codec::U6Rows;  // which has no copies
      MemoryOptions memory = streamed();
      memory.stream.most_bits = codec_traits(codec).bits;
      const auto model = file.open(memory);
      CHECK(codecs_of(*model).contains(codec_traits(codec).name));
      CHECK_FALSE(codecs_of(*model).contains("u6"));
      CHECK(bits_of(logits_of(model)) == bits_of(logits_of(open_tiny(plain))));
    }
  }
}

TEST_CASE("Widths are the ones of least loss within the bytes, and are never more", "[widths]") {
  TinyModelOptions options = several_widths();
  options.may_leave_out = true;
  const TinyFile file(options);
  MemoryOptions memory = streamed();
  const Widths full = file.open(memory)->weights().residency().widths;
  CHECK(full.bytes == full.full_bytes);
  CHECK(full.loss == 0);
  double loss_before = 1e9;
  for (const double share : {0.45, 0.5, 0.6, 0.7, 0.85, 1.0}) {
    memory.stream.weight_bytes = static_cast<uint64_t>(share * static_cast<double>(full.bytes));
    const auto model = file.open(memory);
    const Widths& widths = model->weights().residency().widths;
    INFO(share << ": loss " << widths.loss);
    CHECK(widths.bytes <= memory.stream.weight_bytes);
    CHECK(has_all_rows(*model));
    CHECK(widths.loss <= loss_before);
    loss_before = widths.loss;
    // Streamed, kept, and with any number of threads it is the same.
    const auto expected = bits_of(logits_of(model));
    MemoryOptions kept = memory;
    kept.limit = uint64_t{1} << 30;
    CHECK(bits_of(logits_of(file.open(kept))) == expected);
    CHECK(codecs_of(*model).contains("none") == (share < 0.65));
  }
  CHECK(loss_before == 0);
}

TEST_CASE("Fewer bytes than the narrowest widths take are refused, and so are other modes",
          "[widths]") {
  const TinyFile file(several_widths());
  MemoryOptions memory;
  memory.stream.weight_bytes = uint64_t{1} << 30;
  CHECK(file.open(memory)->weights().residency().mode == MemoryMode::Streamed);
  memory.stream.weight_bytes = 1000;
  const Status status = file.refusal(memory);
  CHECK(status.code() == Code::Usage);
  CHECK_THAT(status.message(), Contains("narrowest widths") && Contains("1000 are allowed"));
  const auto model = file.open(streamed());
  CHECK(model->plan_again({.weight_bytes = 1000}).code() == Code::Usage);
  memory.mode = MemoryMode::Sparse;
  CHECK_THAT(file.refusal(memory).message(), Contains("streamed") && Contains("sparse"));
}

TEST_CASE("Planned again for a speed without a limit, pieces are narrowed if computing needs it",
          "[widths]") {
  const TinyFile file(several_widths());
  MemoryOptions memory = streamed();
  memory.stream.device = {kReadSpeed, 0.1, 1, {}};
  const auto model = file.open(memory);
  REQUIRE_OK(model->plan_again({.tokens_per_second = 9}));
  CHECK(model->weights().residency().widths.loss == 0);
  REQUIRE_OK(model->plan_again({.tokens_per_second = 12}));
  CHECK(model->weights().residency().widths.loss > 0);
  CHECK(1 / model->weights().residency().seconds_per_token >= 12);
  const Status status = model->plan_again({.tokens_per_second = 1000});
  CHECK_THAT(status.message(), Contains("computing alone allows"));
}

MemoryOptions on_device(double compute_seconds) {
  MemoryOptions memory = streamed();
  memory.stream.device = {kReadSpeed, compute_seconds, 1, {}};
  return memory;
}

TEST_CASE("A speed within a limit narrows pieces no more than it must", "[widths]") {
  const TinyFile file(several_widths());
  MemoryOptions memory = on_device(0.01);
  const auto least = file.open(memory);
  memory.limit = least->weights().account().total() + 60'000;
  const Residency full = file.open(memory)->weights().residency();
  CHECK(full.widths.bytes == full.widths.full_bytes);
  double loss_before = -1;
  for (const double faster : {1.0, 1.2, 1.5, 1.7}) {
    memory.stream.tokens_per_second = faster / full.seconds_per_token * 0.999;
    INFO(memory.stream.tokens_per_second << " tokens/s");
    const auto model = file.open(memory);
    const Residency& residency = model->weights().residency();
    CHECK(1 / residency.seconds_per_token >= memory.stream.tokens_per_second);
    CHECK(residency.account.total() <= memory.limit);
    CHECK(residency.widths.loss > loss_before);
    loss_before = residency.widths.loss;
  }
  memory.stream.tokens_per_second = 10 / full.seconds_per_token;
  const Status status = file.refusal(memory);
  CHECK(status.code() == Code::Usage);
  CHECK_THAT(status.message(), Contains("cannot be reached") && Contains("which allow"));
}

TEST_CASE("The first token comes early with narrow pieces, and then all are raised", "[widths]") {
  const TinyFile file(several_widths());
  const auto full = file.open();
  MemoryOptions memory = on_device(0.001);
  memory.stream.first_token_seconds = 100;
  const Residency slow = file.open(memory)->weights().residency();
  CHECK(slow.widths.early_bytes == slow.widths.full_bytes);
  memory.stream.first_token_seconds = 0.7 * slow.seconds_of_first;
  const auto model = file.open(memory);
  const Residency& residency = model->weights().residency();
  CHECK(residency.seconds_of_first <= memory.stream.first_token_seconds);
  CHECK(residency.widths.early_loss > 0);
  CHECK(residency.widths.loss == 0);
  // Every token with its own state, as at the beginning.
  Evaluator evaluator(model, {});
  const auto token = [&] {
    State state = model->empty_state();
    return bits_of(logits_of(*model, evaluator, state, prompt_of(1)));
  };
  Evaluator of_full(full, {});
  State state = full->empty_state();
  const auto last = bits_of(logits_of(*full, of_full, state, prompt_of(1)));
  CHECK(token() != last);
  const size_t to_raise = model->weights().stream()->stats().n_to_raise;
  CHECK(to_raise > 5);
  size_t n = 0;
  while (model->weights().stream()->stats().n_to_raise > 0 && n < 1000) {
    const size_t before = model->weights().stream()->stats().n_to_raise;
    token();
    CHECK(model->weights().stream()->stats().n_to_raise <= before);
    ++n;
  }
  CHECK(n < 1000);
  token();
  CHECK(token() == last);
  memory.stream.first_token_seconds = 0.001 * slow.seconds_of_first;
  const Status status = file.refusal(memory);
  CHECK_THAT(status.message(), Contains("cannot be reached") && Contains("ms"));
}

TEST_CASE("Planned again in the middle of a text, every token is as with that plan from the start",
          "[widths]") {
  const TinyFile file(several_widths());
  const auto full = file.open();
  MemoryOptions memory = streamed();
  memory.max_chunk = 1;
  const uint64_t least = file.open(memory)->weights().account().total();
  memory.limit = least + 300'000;
  const std::vector<int32_t> tokens = prompt_of(40);
  const size_t n_vocab = full->config().n_vocab;
  Evaluator expected_by(full, {});
  State expected_state = full->empty_state();
  const auto expected = logits_of(*full, expected_by, expected_state, tokens);
  const auto model = file.open(memory);
  Evaluator evaluator(model, {});
  State state = model->empty_state();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i % 7 == 5) {
      const uint64_t limit = least + (i % 2 == 0 ? 20'000 : 160'000 + i * 1000);
      REQUIRE_OK(model->plan_again({.limit = limit}));
      CHECK(model->weights().account().total() <= limit);
    }
    const auto here = logits_of(*model, evaluator, state, std::span(tokens).subspan(i, 1));
    CHECK(bits_of(here) == bits_of(std::span(expected).subspan(i * n_vocab, n_vocab)));
  }
  const Status refused = model->plan_again({.limit = 1000});
  CHECK(refused.code() == Code::Usage);
  CHECK_THAT(refused.message(), Contains("smallest possible limit"));
  CHECK(bits_of(logits_of(*model, evaluator, state, std::span(tokens).first(1))) ==
        bits_of(logits_of(*full, expected_by, expected_state, std::span(tokens).first(1))));
  CHECK(full->plan_again({.limit = 1 << 30}).code() == Code::Usage);
}

TEST_CASE("Other widths after planning again keep the state", "[widths]") {
  const TinyFile file(several_widths());
  MemoryOptions memory = streamed();
  const uint64_t full_bytes = file.open(memory)->weights().residency().widths.bytes;
  memory.limit = uint64_t{1} << 30;
  const std::vector<int32_t> tokens = prompt_of(12);
  const std::span<const int32_t> all(tokens);
  MemoryOptions narrow = memory;
  narrow.stream.weight_bytes = full_bytes * 7 / 10;
  const auto wide_model = file.open(memory);
  const auto narrow_model = file.open(narrow);
  // Half of the text with each, by two models and by one that is planned again.
  Evaluator first(wide_model, {});
  State state = wide_model->empty_state();
  logits_of(*wide_model, first, state, all.first(6));
  const auto saved = state.values();
  State moved = narrow_model->empty_state();
  std::copy(saved.begin(), saved.end(), moved.values().begin());
  Evaluator second(narrow_model, {});
  const auto expected = logits_of(*narrow_model, second, moved, all.subspan(6));
  REQUIRE_OK(
      wide_model->plan_again({.limit = memory.limit, .weight_bytes = narrow.stream.weight_bytes}));
  CHECK(bits_of(logits_of(*wide_model, first, state, all.subspan(6))) == bits_of(expected));
}

TEST_CASE("A damaged piece of any width ends the pass that reads it, by name", "[widths]") {
  const test::ScratchFolder folder;
  const TinyModelOptions options = several_widths();
  const std::string path = test::write_tiny_model(folder, options);
  const std::vector<std::byte> whole = test::read_bytes(path);
  for (const double most_bits : {0.0, 4.0, 3.0}) {
    MemoryOptions memory = streamed();
    memory.stream.most_bits = most_bits;
    const auto sound = Model::open(path, memory);
    REQUIRE_OK(sound.status());
    const std::vector<PlacedPiece> pieces = sound.value()->weights().residency().pieces;
    for (size_t i = 0; i < pieces.size(); i += 5) {
      const PieceSource& source = pieces[i].source;
      std::vector<std::byte> bytes = whole;
      bytes[source.offset + source.n_bytes / 2] ^= std::byte{4};
      const std::string damaged = folder.file("damaged.gguf");
      test::write_bytes(damaged, bytes);
      const auto model = Model::open(damaged, memory);
      REQUIRE_OK(model.status());
      Evaluator evaluator(model.value(), {});
      State state = model.value()->empty_state();
      std::vector<float> logits(options.n_vocab);
      const int32_t token = 5;
      const Status status = evaluator.forward({&token, 1}, state, Logits::Last, logits);
      const std::string& name = sound.value()->weights().tensors()[source.tensor].name;
      CHECK(status.code() == Code::BadInput);
      CHECK_THAT(status.message(), Contains("'" + name + "'"));
    }
  }
}

TEST_CASE("Copies whose rows cannot be read one by one are refused", "[widths]") {
  const test::ScratchFolder folder;
  TinyModelOptions options = several_widths();
  options.spoils_rows = true;
  const Status status = Model::open(test::write_tiny_model(folder, options), streamed()).status();
  CHECK(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Contains("ffn.value.weight@lut4") && Contains("one by one"));
}

// The published planner's test that reading keeps ahead: the budget of a layer is what was credited
// for the bytes in memory and the computing before it, less all reads up to it.
bool keeps_ahead(std::span<const PieceTimes> pieces, double credit) {
  for (const PieceTimes& piece : pieces) {
    credit -= piece.read_seconds;
    if (credit < 0) {
      return false;
    }
    credit += piece.compute_seconds;
  }
  return true;
}

TEST_CASE("A first token waits exactly where the accumulated budget of reads runs out",
          "[widths]") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<PieceTimes> pieces(12);
    double compute = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const double size = 0.5 + std::abs(test::noise(seed, i));
      pieces[i] = {i < 3 ? 0.0 : size, 1.0 + 0.2 * static_cast<double>(seed % 5)};
      compute += pieces[i].compute_seconds;
    }
    const std::vector<uint32_t> no_ring(pieces.size(), 12);
    const double took = seconds_of_first(pieces, no_ring);
    CHECK((took <= compute * (1 + 1e-12)) == keeps_ahead(pieces, 0));
  }
}

}  // namespace
}  // namespace rwkv::edge
