// What the tests of evaluator and session share: tiny models opened, prompts, comparing bits.
#pragma once

#include <bit>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/text/session.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

namespace rwkv::edge {

// Everything mapped, so that tests see the weights.
inline MemoryOptions mapped() {
  MemoryOptions options;
  options.mode = MemoryMode::Full;
  return options;
}

inline std::shared_ptr<const Model> open_tiny(const test::TinyModelOptions& options = {},
                                              const MemoryOptions& memory = mapped()) {
  const test::ScratchFolder folder;
  // The open file outlives the folder.
  auto model = Model::open(test::write_tiny_model(folder, options), memory);
  REQUIRE_OK(model.status());
  return model.take();
}

inline std::unique_ptr<Session> make_session(const std::shared_ptr<const Model>& model,
                                             const SessionOptions& options = {}) {
  auto session = Session::create(model, options);
  REQUIRE_OK(session.status());
  return session.take();
}

/// `n` ids that a model of tiny size knows, none of them 0.
inline std::vector<int32_t> prompt_of(size_t n) {
  std::vector<int32_t> tokens(n);
  for (size_t i = 0; i < n; ++i) {
    tokens[i] = static_cast<int32_t>(1 + (i * 37 + i * i * 11) % 250);
  }
  return tokens;
}

/// Floats as their bits: equal means identical, and NaN equals itself.
inline std::vector<uint32_t> bits_of(std::span<const float> values) {
  std::vector<uint32_t> bits;
  for (const float value : values) {
    bits.push_back(std::bit_cast<uint32_t>(value));
  }
  return bits;
}

/// What a call of generate() gave.
struct Generated {
  std::vector<int32_t> tokens;
  std::string text;
  StopReason reason = StopReason::MaxTokens;
};

inline Generated generate(Session& session, size_t max_tokens) {
  Generated result;
  const auto reason = session.generate(max_tokens, [&](const Piece& piece) {
    if (piece.token != kNoToken) {
      result.tokens.push_back(piece.token);
    }
    result.text += piece.text;
    return true;
  });
  REQUIRE_OK(reason.status());
  result.reason = reason.value();
  return result;
}

}  // namespace rwkv::edge
