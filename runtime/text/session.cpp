#include "runtime/text/session.h"

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "runtime/model/state_file.h"

namespace rwkv::edge {
namespace {

// Far more than any machine that this runs on has, far fewer than make thread creation fail.
constexpr unsigned kMaxThreads = 256;
// Scratch memory is about 20 n_embd floats per token: 4096 tokens of a wide model are 1.3 GB.
constexpr size_t kMaxChunk = 4096;

constexpr std::string_view kGptEndOfText = "<|endoftext|>";
// How vocabularies of music name it; words have a space in front of them.
constexpr std::string_view kEndWord = " <end>";

Status check(const SessionOptions& options) {
  if (options.n_threads > kMaxThreads) {
    return usage_error("n_threads: expected 0 (all available) to {}, found {}", kMaxThreads,
                       options.n_threads);
  }
  if (options.max_chunk == 0 || options.max_chunk > kMaxChunk) {
    return usage_error("max_chunk: expected 1 to {} tokens, found {}", kMaxChunk,
                       options.max_chunk);
  }
  RWKV_TRY(check(options.sampler));
  return check_stop_strings(options.stop_strings);
}

/// The result of `make`, or a status if the standard library throws for lack of resources.
template <typename Make>
Result<std::unique_ptr<Session>> made_by(const Make& make) {
  try {
    return Result<std::unique_ptr<Session>>(make());
  } catch (const std::bad_alloc&) {
    return failed("not enough memory for a session");
  } catch (const std::system_error& error) {
    return failed("cannot start the threads of a session: {}", error.what());
  }
}

/// The first token with these bytes, or kNoToken.
int32_t token_named(const Tokenizer& tokenizer, std::string_view bytes) {
  for (size_t id = 0; id < tokenizer.n_vocab(); ++id) {
    if (tokenizer.token_bytes(static_cast<int32_t>(id)) == bytes) {
      return static_cast<int32_t>(id);
    }
  }
  return kNoToken;
}

EvaluatorOptions evaluator_options(const SessionOptions& options) {
  const unsigned n_threads = options.n_threads == 0 ? available_threads() : options.n_threads;
  return {.n_threads = std::min(n_threads, kMaxThreads), .max_chunk = options.max_chunk};
}

}  // namespace

int32_t end_of_text_token(const Model& model) {
  const Tokenizer* tokenizer = model.tokenizer();
  if (!tokenizer) {
    return kNoToken;
  }
  switch (tokenizer->kind()) {
    case TokenizerKind::Byte:
      return kNoToken;
    case TokenizerKind::World:
      // Task vocabularies may number their words from 0; then no token ends a text.
      return tokenizer->token_bytes(0).empty() ? 0 : kNoToken;
    case TokenizerKind::Bpe:
      // Id 0 in the Pile models' vocabulary, 50256 in GPT-2's own.
      return token_named(*tokenizer, kGptEndOfText);
    case TokenizerKind::WordLevel:
      return token_named(*tokenizer, kEndWord);
  }
  return kNoToken;
}

Session::Session(std::shared_ptr<const Model> model, const SessionOptions& options)
    : model_(std::move(model)),
      options_(options),
      evaluator_(model_, evaluator_options(options)),
      state_(model_->empty_state()),
      sampler_(model_->config().n_vocab, options.sampler),
      stops_(options.stop_strings),
      end_of_text_(end_of_text_token(*model_)),
      logits_(model_->config().n_vocab),
      scratch_(logits_.size()) {
  take_logits(model_->initial_logits());
}

Result<std::unique_ptr<Session>> Session::create(std::shared_ptr<const Model> model,
                                                 const SessionOptions& options) {
  if (!model) {
    return usage_error("expected a model for the session, found none");
  }
  RWKV_TRY(check(options));
  return made_by([&] { return std::unique_ptr<Session>(new Session(std::move(model), options)); });
}

Result<std::unique_ptr<Session>> Session::clone() const {
  return made_by([&] {
    std::unique_ptr<Session> copy(new Session(model_, options_));
    copy->state_ = state_;
    // Assigned, not constructed, to keep the memory that the new sampler has reserved.
    copy->sampler_ = sampler_;
    copy->logits_ = logits_;
    copy->has_logits_ = has_logits_;
    return copy;
  });
}

Status Session::feed_tokens(std::span<const int32_t> tokens) {
  if (tokens.empty()) {
    return {};
  }
  RWKV_TRY(evaluator_.forward(tokens, state_, Logits::Last, logits_));
  has_logits_ = true;
  n_evaluated_ += tokens.size();
  return {};
}

Result<bool> Session::feed_tokens(std::span<const int32_t> tokens,
                                  const std::function<bool(size_t n_done)>& goes_on) {
  const auto n_vocab = static_cast<int64_t>(model_->config().n_vocab);
  const bool all_known = std::all_of(tokens.begin(), tokens.end(),
                                     [&](int32_t id) { return id >= 0 && id < n_vocab; });
  // With an unknown one among them it is one piece, which is refused before any is fed.
  const size_t step = all_known ? options_.max_chunk : tokens.size();
  for (size_t begin = 0; begin < tokens.size();) {
    const auto piece = tokens.subspan(begin, std::min(step, tokens.size() - begin));
    begin += piece.size();
    if (begin == tokens.size()) {
      RWKV_TRY(feed_tokens(piece));
      goes_on(begin);
      return true;
    }
    // Logits are needed only after the last piece, and the head is a large matrix.
    RWKV_TRY(evaluator_.forward(piece, state_, Logits::None, {}));
    has_logits_ = false;
    n_evaluated_ += piece.size();
    if (!goes_on(begin)) {
      return false;
    }
  }
  return true;
}

Status Session::feed_text(std::string_view text) {
  const Tokenizer* tokenizer = model_->tokenizer();
  if (!tokenizer) {
    return bad_input("the model was packed without a vocabulary; feed token ids instead of text");
  }
  std::vector<int32_t> tokens;
  RWKV_TRY(tokenizer->encode(text, tokens));
  return feed_tokens(tokens);
}

Result<StopReason> Session::generate(size_t max_tokens, const OnPiece& on_piece) {
  RWKV_TRY(can_generate());
  if (!on_piece) {
    return usage_error("expected a function that receives the text, found none");
  }
  forget_text();
  for (size_t n = 0; n < max_tokens; ++n) {
    RWKV_TRY(check_logits(logits_));
    std::copy(logits_.begin(), logits_.end(), scratch_.begin());
    const int32_t token = sampler_.sample(scratch_);
    if (token == end_of_text_) {
      return finish(on_piece, StopReason::EndOfText);
    }
    sampler_.accept(token);
    // Stop strings work on bytes, before the text is cut into whole characters.
    const bool goes_on = on_piece({token, utf8_.push(stops_.push(bytes_of(token)))});
    RWKV_TRY(feed_tokens({&token, 1}));
    if (!goes_on) {
      return StopReason::Cancelled;
    }
    if (stops_.stopped()) {
      return finish(on_piece, StopReason::StopString);
    }
  }
  return finish(on_piece, StopReason::MaxTokens);
}

Status Session::can_generate() const {
  return has_logits_
             ? Status()
             : usage_error("there is nothing to continue; feed a prompt of at least one token");
}

StopReason Session::finish(const OnPiece& on_piece, StopReason reason) {
  std::string rest(utf8_.push(stops_.flush()));
  rest += utf8_.flush();
  if (!rest.empty()) {
    on_piece({kNoToken, rest});
  }
  return reason;
}

std::string_view Session::bytes_of(int32_t token) const {
  const Tokenizer* tokenizer = model_->tokenizer();
  return tokenizer ? tokenizer->token_bytes(token) : std::string_view();
}

void Session::forget_text() {
  stops_.reset();
  utf8_.flush();
}

std::span<const float> Session::logits() const {
  return has_logits_ ? std::span<const float>(logits_) : std::span<const float>();
}

Status Session::set_sampler(const SamplerOptions& options) {
  RWKV_TRY(check(options));
  sampler_ = Sampler(model_->config().n_vocab, options);
  options_.sampler = options;
  return {};
}

Status Session::set_stop_strings(std::vector<std::string> stops) {
  RWKV_TRY(check_stop_strings(stops));
  options_.stop_strings = std::move(stops);
  stops_ = StopStrings(options_.stop_strings);
  return {};
}

void Session::reset() {
  state_.reset();
  sampler_.reset();
  forget_text();
  take_logits(model_->initial_logits());
}

// Those of the next token; none if `logits` is empty.
void Session::take_logits(std::span<const float> logits) {
  std::copy(logits.begin(), logits.end(), logits_.begin());
  has_logits_ = !logits.empty();
}

Status Session::save_state_file(const std::string& path, OutputFile::Existing existing,
                                std::string_view history) const {
  return edge::save_state_file(path, existing, state_, logits(), history);
}

Result<std::string> Session::load_state_file(const std::string& path) {
  RWKV_ASSIGN(StateFileContents contents, edge::load_state_file(path, state_));
  sampler_.reset();
  forget_text();
  take_logits(contents.logits);
  return std::move(contents.history);
}

Status Session::load_state(std::span<const std::byte> bytes) {
  RWKV_TRY(state_.load(bytes));
  sampler_.reset();
  forget_text();
  has_logits_ = false;
  return {};
}

}  // namespace rwkv::edge
