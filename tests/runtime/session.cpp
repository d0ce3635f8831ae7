// Generating: what ends a text, what is handed out, what is fed; and that none of it allocates.
#include "runtime/text/session.h"

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "formats/base/utf8.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/allocations.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

const SamplerOptions kGreedy{.temperature = 0.0f};

/// Bytes as they are shown: whole characters, U+FFFD for the rest.
std::string shown(std::string_view bytes) {
  Utf8Stream stream;
  std::string text(stream.push(bytes));
  text += stream.flush();
  return text;
}

std::string bytes_of(const Model& model, const std::vector<int32_t>& tokens) {
  std::string bytes;
  for (const int32_t token : tokens) {
    bytes += model.tokenizer()->token_bytes(token);
  }
  return bytes;
}

std::vector<uint32_t> logits_after(const std::shared_ptr<const Model>& model,
                                   const std::vector<int32_t>& prompt,
                                   const std::vector<int32_t>& tokens) {
  const auto session = make_session(model);
  REQUIRE_OK(session->feed_tokens(prompt));
  REQUIRE_OK(session->feed_tokens(tokens));
  return bits_of(session->logits());
}

TEST_CASE("Session: greedy text is the same each time, with any threads", "[session]") {
  for (const test::TinyModelOptions& options : test::all_tiny_models()) {
    const auto model = open_tiny(options);
    INFO(version_label(model->config()));
    const auto one = make_session(model, {.n_threads = 1, .sampler = kGreedy});
    const auto two = make_session(model, {.n_threads = 2, .max_chunk = 5, .sampler = kGreedy});
    REQUIRE_OK(one->feed_tokens(prompt_of(20)));
    REQUIRE_OK(two->feed_tokens(prompt_of(20)));
    const Generated first = generate(*one, 40);
    CHECK(generate(*two, 40).tokens == first.tokens);
    CHECK(bits_of(two->logits()) == bits_of(one->logits()));
    one->reset();
    CHECK(one->logits().empty());
    REQUIRE_OK(one->feed_tokens(prompt_of(20)));
    CHECK(generate(*one, 40).tokens == first.tokens);
  }
}

TEST_CASE("Sessions of one model may run at the same time", "[session]") {
  const auto model = open_tiny(
      {.version = Version::V6, .vocabulary = test::TinyVocabulary::Bytes, .n_vocab = 256});
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 3; ++i) {
    sessions.push_back(make_session(model, {.n_threads = 2, .sampler = kGreedy}));
  }
  std::vector<std::vector<int32_t>> tokens(sessions.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < sessions.size(); ++i) {
    threads.emplace_back([&, i] {  // Catch is not for other threads: nothing is checked in here
      if (!sessions[i]->feed_text("Hello world").ok()) {
        return;
      }
      const auto reason = sessions[i]->generate(50, [&](const Piece& piece) {
        tokens[i].push_back(piece.token);
        return true;
      });
      tokens[i].push_back(reason.ok() ? 1000 : -1000);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(tokens[0].size() > 50);
  CHECK(tokens[0].back() == 1000);
  CHECK(tokens[1] == tokens[0]);
  CHECK(tokens[2] == tokens[0]);
}

TEST_CASE("Session: a text may be generated in parts", "[session]") {
  const auto model = open_tiny({.vocabulary = test::TinyVocabulary::Bytes, .n_vocab = 256});
  const SessionOptions options{.sampler = {.presence_penalty = 0.3f, .seed = 5}};
  const auto whole = make_session(model, options);
  const auto parts = make_session(model, options);
  REQUIRE_OK(whole->feed_tokens(prompt_of(9)));
  REQUIRE_OK(parts->feed_tokens(prompt_of(9)));
  std::vector<int32_t> tokens = generate(*parts, 7).tokens;
  CHECK(bits_of(parts->logits()) == logits_after(model, prompt_of(9), tokens));
  const Generated nothing = generate(*parts, 0);
  CHECK(nothing.reason == StopReason::MaxTokens);
  CHECK(nothing.tokens.empty());
  CHECK(nothing.text.empty());
  const Generated rest = generate(*parts, 13);
  tokens.insert(tokens.end(), rest.tokens.begin(), rest.tokens.end());
  const Generated all = generate(*whole, 20);
  CHECK(all.tokens == tokens);
  CHECK(all.reason == StopReason::MaxTokens);
}

TEST_CASE("Session feeds text as its tokens", "[session]") {
  const auto model = open_tiny();
  const std::string text = "Hello world: \xe4\xbd\xa0!";
  std::vector<int32_t> tokens;
  REQUIRE_OK(model->tokenizer()->encode(text, tokens));
  const auto session = make_session(model);
  REQUIRE_OK(session->feed_text(text));
  CHECK(bits_of(session->logits()) == logits_after(model, tokens, {}));
}

TEST_CASE("Session ends at the end-of-text token, which is not fed", "[session]") {
  for (const auto kind : {test::TinyVocabulary::World, test::TinyVocabulary::Bpe}) {
    const auto model = open_tiny({.vocabulary = kind});
    CHECK(end_of_text_token(*model) == 0);
    const auto session = make_session(model, {.sampler = {.seed = 3}});
    REQUIRE_OK(session->feed_tokens(prompt_of(3)));
    const Generated text = generate(*session, 20000);
    CHECK(text.reason == StopReason::EndOfText);
    CHECK(std::count(text.tokens.begin(), text.tokens.end(), 0) == 0);
    CHECK(text.text == shown(bytes_of(*model, text.tokens)));
    CHECK(bits_of(session->logits()) == logits_after(model, prompt_of(3), text.tokens));
  }
  for (const auto kind : {test::TinyVocabulary::Bytes, test::TinyVocabulary::None}) {
    const auto model = open_tiny({.vocabulary = kind, .n_vocab = 256});
    CHECK(end_of_text_token(*model) == kNoToken);
    const auto session = make_session(model, {.sampler = {.temperature = 3.0f}});
    REQUIRE_OK(session->feed_tokens(prompt_of(3)));
    const Generated text = generate(*session, 3000);
    CHECK(text.reason == StopReason::MaxTokens);
    CHECK(text.tokens.size() == 3000);
    CHECK(std::count(text.tokens.begin(), text.tokens.end(), 0) > 0);
  }
}

TEST_CASE("Session does not end at id 0 where it is a word", "[session]") {
  const auto model = open_tiny({.vocabulary = test::TinyVocabulary::ZeroBased});
  CHECK(end_of_text_token(*model) == kNoToken);
  const auto session = make_session(model, {.sampler = {.temperature = 3.0f}});
  REQUIRE_OK(session->feed_tokens(prompt_of(3)));
  const Generated text = generate(*session, 3000);
  CHECK(text.reason == StopReason::MaxTokens);
  CHECK(std::count(text.tokens.begin(), text.tokens.end(), 0) > 0);
  CHECK_THAT(text.text, Catch::Contains("zero"));
}

TEST_CASE("Session fails on logits that are not finite", "[session]") {
  for (const char* tensor : {"ln_out.weight", "blocks.1.att.key.weight", "head.weight"}) {
    const auto session = make_session(open_tiny({.spoiled = tensor}));
    REQUIRE_OK(session->feed_tokens(prompt_of(3)));
    const Status status = session->generate(5, [](const Piece&) { return true; }).status();
    INFO(tensor);
    CHECK(status.code() == Code::BadInput);
    CHECK_THAT(status.message(), Catch::Contains("not finite") && Catch::Contains("--verify"));
  }
}

TEST_CASE("Session hands out whole characters for any tokens", "[session]") {
  const auto model = open_tiny({.vocabulary = test::TinyVocabulary::Bytes, .n_vocab = 256});
  const auto session = make_session(model, {.sampler = {.temperature = 2.0f, .seed = 11}});
  REQUIRE_OK(session->feed_tokens(prompt_of(3)));
  std::vector<int32_t> tokens;
  std::string text;
  size_t n_invalid = 0;
  const auto reason = session->generate(3000, [&](const Piece& piece) {
    if (piece.token != kNoToken) {
      tokens.push_back(piece.token);
    }
    n_invalid += is_valid_utf8(piece.text) ? 0u : 1u;
    text += piece.text;
    return true;
  });
  REQUIRE_OK(reason.status());
  CHECK(n_invalid == 0);
  CHECK(tokens.size() == 3000);
  CHECK((text == shown(bytes_of(*model, tokens))));
}

TEST_CASE("Session stops at a stop string and hands out what is before it", "[session]") {
  const auto model = open_tiny({.vocabulary = test::TinyVocabulary::Bytes, .n_vocab = 256});
  const auto reference = make_session(model, {.sampler = {.seed = 2}});
  REQUIRE_OK(reference->feed_tokens(prompt_of(5)));
  const std::vector<int32_t> tokens = generate(*reference, 60).tokens;
  const std::string bytes = bytes_of(*model, tokens);
  // Some of these cut through what would be a character; the text stays valid.
  for (const size_t length : {1u, 2u, 5u}) {
    for (const size_t at : {0u, 1u, 20u, 33u, 55u}) {
      const std::string stop = bytes.substr(at, length);
      const size_t found = bytes.find(stop);
      const auto session =
          make_session(model, {.sampler = {.seed = 2}, .stop_strings = {"never to be seen", stop}});
      REQUIRE_OK(session->feed_tokens(prompt_of(5)));
      const Generated text = generate(*session, 60);
      INFO("stop of " << length << " bytes at " << at);
      CHECK(text.reason == StopReason::StopString);
      CHECK(text.tokens.size() == found + length);
      CHECK((text.text == shown(std::string_view(bytes).substr(0, found))));
      CHECK(bits_of(session->logits()) == logits_after(model, prompt_of(5), text.tokens));
      // Generating again begins to look anew, as a clone does, which has seen no text.
      auto copy = session->clone();
      REQUIRE_OK(copy.status());
      const Generated fresh = generate(*copy.value(), 30);
      const Generated next = generate(*session, 30);
      CHECK(next.tokens == fresh.tokens);
      CHECK((next.text == fresh.text));
      CHECK(next.reason == fresh.reason);
    }
  }
  // The beginning of a stop is held back and comes at the end.
  const auto session = make_session(
      model, {.sampler = {.seed = 2}, .stop_strings = {bytes.substr(57) + "never to be seen"}});
  REQUIRE_OK(session->feed_tokens(prompt_of(5)));
  const Generated text = generate(*session, 60);
  CHECK(text.reason == StopReason::MaxTokens);
  CHECK((text.text == shown(bytes)));
  REQUIRE_OK(session->set_stop_strings({}));
  CHECK(generate(*session, 60).reason == StopReason::MaxTokens);
}

TEST_CASE("Session ends when the callback says so", "[session]") {
  const auto model = open_tiny();
  const auto session = make_session(model, {.sampler = kGreedy});
  REQUIRE_OK(session->feed_tokens(prompt_of(5)));
  std::vector<int32_t> tokens;
  const auto reason = session->generate(50, [&](const Piece& piece) {
    tokens.push_back(piece.token);
    return tokens.size() < 3;
  });
  REQUIRE_OK(reason.status());
  CHECK(reason.value() == StopReason::Cancelled);
  CHECK(tokens.size() == 3);
  CHECK(bits_of(session->logits()) == logits_after(model, prompt_of(5), tokens));

  // An exception passes through; the session stays usable.
  CHECK_THROWS_AS(
      (void)session->generate(5, [](const Piece&) -> bool { throw std::runtime_error("no"); }),
      std::runtime_error);
  CHECK(bits_of(session->logits()) == logits_after(model, prompt_of(5), tokens));
  CHECK(generate(*session, 2).tokens.size() == 2);
}

TEST_CASE("Session allocates nothing while it generates", "[session]") {
  for (test::TinyModelOptions options : test::all_tiny_models()) {
    options.codec = options.version == Version::V4 ? Codec::Mm8 : Codec::I8Row;
    options.vocabulary = test::TinyVocabulary::Bytes;
    const auto model = open_tiny(options);
    INFO(version_label(model->config()));
    const auto original = make_session(
        model, {.n_threads = 2,
                .sampler = {.top_k = 50, .top_p = 0.9f, .presence_penalty = 0.2f, .seed = 4},
                .stop_strings = {"never to be seen", "\n\nUser:"}});
    REQUIRE_OK(original->feed_tokens(prompt_of(8)));
    auto copy = original->clone();
    REQUIRE_OK(copy.status());
    for (Session* session : {original.get(), copy.value().get()}) {
      size_t n_tokens = 0;
      size_t at_first = 0;
      size_t at_last = 0;
      const auto reason = session->generate(200, [&](const Piece&) {
        at_last = test::n_allocations();
        at_first = n_tokens++ == 0 ? at_last : at_first;
        return true;
      });
      REQUIRE_OK(reason.status());
      CHECK(n_tokens >= 200);
      CHECK(at_last == at_first);
    }
    const std::vector<int32_t> more = prompt_of(50);
    const size_t before = test::n_allocations();
    const Status status = original->feed_tokens(more);
    const size_t after = test::n_allocations();
    CHECK(status.ok());
    CHECK(after == before);
  }
}

TEST_CASE("Session refuses invalid requests", "[session]") {
  const auto model = open_tiny();
  const auto code = [&](const SessionOptions& options) {
    return Session::create(model, options).status().code();
  };
  CHECK(Session::create(nullptr, {}).status().code() == Code::Usage);
  CHECK(code({.n_threads = 257}) == Code::Usage);
  CHECK(code({.n_threads = 0}) == Code::Ok);
  CHECK(code({.max_chunk = 0}) == Code::Usage);
  CHECK(code({.max_chunk = SIZE_MAX}) == Code::Usage);
  CHECK(code({.sampler = {.top_p = 0.0f}}) == Code::Usage);
  CHECK(code({.stop_strings = {"a", ""}}) == Code::Usage);

  const auto session = make_session(model, {.sampler = kGreedy});
  const auto go_on = [](const Piece&) { return true; };
  CHECK_THAT(session->generate(5, go_on).status().message(), Catch::Contains("feed a prompt"));
  REQUIRE_OK(session->feed_tokens({}));
  REQUIRE_OK(session->feed_text(""));
  CHECK(session->generate(5, go_on).status().code() == Code::Usage);
  CHECK(session->logits().empty());
  CHECK(session->feed_tokens(std::vector<int32_t>{300}).code() == Code::BadInput);
  CHECK(session->logits().empty());
  REQUIRE_OK(session->feed_tokens(std::vector<int32_t>{299}));
  CHECK(session->generate(5, nullptr).status().code() == Code::Usage);
  const auto before = bits_of(session->logits());
  CHECK(session->feed_tokens(std::vector<int32_t>{1, -1}).code() == Code::BadInput);
  CHECK(session->set_sampler({.temperature = -1.0f}).code() == Code::Usage);
  CHECK(session->set_stop_strings({""}).code() == Code::Usage);
  CHECK(bits_of(session->logits()) == before);

  const auto mute = make_session(open_tiny({.vocabulary = test::TinyVocabulary::None}));
  const Status status = mute->feed_text("Hello");
  CHECK(status.code() == Code::BadInput);
  CHECK_THAT(status.message(), Catch::Contains("token ids"));
  REQUIRE_OK(mute->feed_tokens(prompt_of(2)));
  const Generated text = generate(*mute, 10);
  CHECK(text.tokens.size() == 10);
  CHECK(text.text.empty());
}

}  // namespace
}  // namespace rwkv::edge
