// Saving, loading and copying what a session remembers.

#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "tests/runtime/session_testing.h"
#include "tests/support/catch.h"

namespace rwkv::edge {
namespace {

std::vector<std::byte> saved(const Session& session) {
  std::vector<std::byte> bytes(session.state_bytes());
  REQUIRE_OK(session.save_state(bytes));
  return bytes;
}

TEST_CASE("Session goes on from a saved state with the same logits", "[session][state]") {
  for (const test::TinyModelOptions& options : test::all_tiny_models()) {
    const auto model = open_tiny(options);
    INFO(version_label(model->config()));
    const auto session = make_session(model);
    REQUIRE_OK(session->feed_tokens(prompt_of(30)));
    const std::vector<std::byte> state = saved(*session);
    REQUIRE_OK(session->feed_tokens(prompt_of(12)));

    const auto other = make_session(model, {.n_threads = 2});
    REQUIRE_OK(other->feed_tokens(prompt_of(3)));
    REQUIRE_OK(other->load_state(state));
    CHECK(other->logits().empty());
    CHECK(other->can_generate().code() == Code::Usage);
    CHECK(saved(*other) == state);
    REQUIRE_OK(other->feed_tokens(prompt_of(12)));
    CHECK(bits_of(other->logits()) == bits_of(session->logits()));
    CHECK(saved(*other) == saved(*session));
  }
}

TEST_CASE("Session: a clone goes its own way", "[session][state]") {
  for (const test::TinyModelOptions& options : test::all_tiny_models()) {
    const auto model = open_tiny(options);
    INFO(version_label(model->config()));
    const auto session = make_session(
        model, {.sampler = {.frequency_penalty = 0.5f, .seed = 8}, .stop_strings = {"stop"}});
    REQUIRE_OK(session->feed_tokens(prompt_of(10)));
    generate(*session, 5);
    auto made = session->clone();
    REQUIRE_OK(made.status());
    Session& copy = *made.value();
    CHECK(bits_of(copy.logits()) == bits_of(session->logits()));
    const auto before = saved(copy);
    const Generated text = generate(*session, 20);
    CHECK(saved(copy) == before);
    CHECK(generate(copy, 20).tokens == text.tokens);
    CHECK(bits_of(copy.logits()) == bits_of(session->logits()));
  }
}

TEST_CASE("Session refuses a damaged state and stays as it was", "[session][state]") {
  const auto model = open_tiny({.version = Version::V4});
  const auto session = make_session(model);
  REQUIRE_OK(session->feed_tokens(prompt_of(30)));
  const std::vector<std::byte> good = saved(*session);
  REQUIRE_OK(session->feed_tokens(prompt_of(2)));
  const auto state_before = saved(*session);
  const auto logits_before = bits_of(session->logits());
  const auto is_refused = [&](std::span<const std::byte> bytes) {
    return session->load_state(bytes).code() == Code::BadInput && saved(*session) == state_before &&
           bits_of(session->logits()) == logits_before;
  };
  size_t n_accepted = 0;
  for (size_t i = 0; i < good.size(); i += i < 64 ? 1 : 53) {
    std::vector<std::byte> bad = good;
    bad[i] ^= std::byte{0x10};
    n_accepted += is_refused(bad) ? 0u : 1u;
  }
  CHECK(n_accepted == 0);
  CHECK(is_refused({}));
  CHECK(is_refused(std::span(good).first(good.size() - 1)));
  std::vector<std::byte> longer = good;
  longer.push_back(std::byte{0});
  CHECK(is_refused(longer));

  // The same sizes with other weights: another model.
  const auto stranger = make_session(open_tiny({.version = Version::V4, .seed = 2}));
  REQUIRE_OK(stranger->feed_tokens(prompt_of(30)));
  CHECK(is_refused(saved(*stranger)));
  CHECK_THAT(session->load_state(saved(*stranger)).message(), Catch::Contains("another model"));
  // The same weights packed differently make other numbers, so it is another model, too.
  const auto packed = make_session(open_tiny({.version = Version::V4, .codec = Codec::F16}));
  CHECK(is_refused(saved(*packed)));

  std::vector<std::byte> small(good.size() - 1);
  CHECK(session->save_state(small).code() == Code::Usage);
  REQUIRE_OK(session->load_state(good));
  CHECK(saved(*session) == good);
}

}  // namespace
}  // namespace rwkv::edge
