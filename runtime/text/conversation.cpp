#include "runtime/text/conversation.h"

#include <algorithm>
#include <utility>

namespace rwkv::edge {
namespace {

/// Odd, so that no two turns and no two attempts of a small number share a seed.
constexpr uint64_t kTurnStep = 0xD1B54A32D192ED03u;
constexpr uint64_t kAttemptStep = 0xABC98388FB8FAC03u;

/// Where in `text` the stop string is that is complete first, as StopStrings decides it, and the
/// longest of those that are complete at the same byte; the size of `text` if there is none.
size_t find_stop(std::string_view text, std::span<const std::string_view> stops) {
  size_t begin = text.size();
  size_t end = std::string_view::npos;
  for (const std::string_view stop : stops) {
    const size_t at = text.find(stop);
    if (at == std::string_view::npos) {
      continue;
    }
    if (at + stop.size() < end || (at + stop.size() == end && at < begin)) {
      begin = at;
      end = at + stop.size();
    }
  }
  return begin;
}

}  // namespace

Conversation::Conversation(std::unique_ptr<Session> session, const ConversationOptions& options)
    : session_(std::move(session)), options_(options) {}

Result<std::unique_ptr<Conversation>> Conversation::create(std::unique_ptr<Session> session,
                                                           const ConversationOptions& options) {
  if (!session || !options.chat_template) {
    return usage_error("expected a session and a template for the conversation, found none");
  }
  if (!session->model().tokenizer()) {
    return usage_error(
        "the model was packed without a vocabulary, so it cannot chat; convert it with --vocab");
  }
  const auto& stops = options.chat_template->stops;
  RWKV_TRY(session->set_stop_strings({stops.begin(), stops.end()}));
  RWKV_TRY(session->set_sampler(options.sampler));
  session->reset();
  return std::unique_ptr<Conversation>(new Conversation(std::move(session), options));
}

Result<Conversation::Moment> Conversation::present() const {
  Moment moment;
  moment.seen = seen_;
  moment.is_empty = is_empty_;
  if (!is_empty_) {
    moment.state.resize(session_->state_bytes());
    RWKV_TRY(session_->save_state(moment.state));
  }
  return moment;
}

Status Conversation::go_to(const Moment& moment) {
  if (moment.is_empty) {
    session_->reset();
  } else {
    RWKV_TRY(session_->load_state(moment.state));
  }
  seen_ = moment.seen;
  is_empty_ = moment.is_empty;
  return {};
}

Result<bool> Conversation::feed(std::string_view text, const OnRead& on_read) {
  std::vector<int32_t> tokens;
  const int32_t end_of_text = end_of_text_token(session_->model());
  const bool begins = is_empty_ && chat_template().begins_with_end_of_text;
  if (begins && end_of_text != kNoToken && !session_->model().has_initial_state()) {
    tokens.push_back(end_of_text);
  }
  RWKV_TRY(session_->model().tokenizer()->encode(text, tokens));
  is_empty_ = is_empty_ && tokens.empty();
  seen_.clear();
  counts_.n_read += tokens.size();
  return session_->feed_tokens(tokens,
                               [&](size_t n_done) { return on_read(n_done, tokens.size()); });
}

std::string Conversation::turn_text(size_t index, const std::string& message) const {
  const ChatTemplate& form = chat_template();
  return std::string(index > 0 ? form.turn_end : "") + form.user_begin + form.message(message) +
         form.user_end + form.answer_begin;
}

Result<bool> Conversation::feed_turn(size_t index, const std::string& message,
                                     const OnRead& on_read) {
  const std::string text = turn_text(index, message);
  const size_t n_seen = text.starts_with(seen_) ? seen_.size() : 0;
  return feed(std::string_view(text).substr(n_seen), on_read);
}

Result<bool> Conversation::return_to(size_t index, const OnRead& on_read) {
  const auto is_kept = [&](size_t i) { return moments_[i].is_empty || !moments_[i].state.empty(); };
  if (moments_.empty()) {
    RWKV_TRY(go_to(base_));
    return true;
  }
  size_t from = std::min(index, moments_.size() - 1);
  while (from > 0 && !is_kept(from)) {
    --from;
  }
  RWKV_TRY(go_to(is_kept(from) ? moments_[from] : base_));
  for (size_t i = from; i < index; ++i) {
    RWKV_ASSIGN(const bool is_asked, feed_turn(i, turns_[i].user, on_read));
    RWKV_ASSIGN(const bool is_answered,
                is_asked ? feed(turns_[i].answer, on_read) : Result<bool>(false));
    if (!is_answered) {
      return false;
    }
  }
  return true;
}

Result<bool> Conversation::set_system(const std::string& system, const OnRead& on_read) {
  RWKV_ASSIGN(const Moment before, present());
  RWKV_TRY(go_to({}));
  if (!system.empty()) {
    const ChatTemplate& form = chat_template();
    RWKV_ASSIGN(const bool is_read,
                feed(form.system_begin + form.message(system) + form.system_end, on_read));
    if (!is_read) {
      RWKV_TRY(go_to(before));
      return false;
    }
  }
  system_ = system;
  RWKV_ASSIGN(base_, present());
  RWKV_TRY(reset());
  return true;
}

Status Conversation::reset() {
  turns_.clear();
  moments_.clear();
  attempts_.clear();
  return go_to(base_);
}

Result<StopReason> Conversation::say(const std::string& message, const OnRead& on_read,
                                     const OnText& on_text) {
  const size_t index = turns_.size();
  RWKV_ASSIGN(const Moment before, present());
  // What the model wrote after its answer may not be what follows now.
  if (!turn_text(index, message).starts_with(seen_)) {
    RWKV_ASSIGN(const bool is_back, return_to(index, on_read));
    if (!is_back) {
      RWKV_TRY(go_to(before));
      return StopReason::Cancelled;
    }
  }
  RWKV_ASSIGN(Moment moment, present());
  RWKV_ASSIGN(const bool is_read, feed_turn(index, message, on_read));
  if (!is_read) {
    RWKV_TRY(go_to(before));
    return StopReason::Cancelled;
  }
  turns_.push_back({message, ""});
  moments_.push_back(std::move(moment));
  attempts_.push_back(0);
  forget_old_states();
  return answer(on_text);
}

Result<StopReason> Conversation::retry(const OnRead& on_read, const OnText& on_text) {
  if (turns_.empty()) {
    return usage_error("there is no answer to do again");
  }
  const size_t index = turns_.size() - 1;
  RWKV_ASSIGN(const Moment before, present());
  RWKV_ASSIGN(const bool is_back, return_to(index, on_read));
  RWKV_ASSIGN(Moment moment, present());
  RWKV_ASSIGN(const bool is_read,
              is_back ? feed_turn(index, turns_[index].user, on_read) : Result<bool>(false));
  if (!is_read) {
    RWKV_TRY(go_to(before));
    return StopReason::Cancelled;
  }
  moments_[index] = std::move(moment);
  ++attempts_[index];
  return answer(on_text);
}

Result<bool> Conversation::undo(const OnRead& on_read) {
  if (turns_.empty()) {
    return usage_error("there is no turn to take back");
  }
  RWKV_ASSIGN(const Moment before, present());
  RWKV_ASSIGN(const bool is_back, return_to(turns_.size() - 1, on_read));
  if (!is_back) {
    RWKV_TRY(go_to(before));
    return false;
  }
  turns_.pop_back();
  moments_.pop_back();
  attempts_.pop_back();
  return true;
}

Result<StopReason> Conversation::answer(const OnText& on_text) {
  const size_t index = turns_.size() - 1;
  SamplerOptions sampler = options_.sampler;
  sampler.seed += index * kTurnStep + attempts_[index] * kAttemptStep;
  RWKV_TRY(session_->set_sampler(sampler));
  std::string written;
  const auto on_piece = [&](const Piece& piece) {
    if (piece.token != kNoToken) {
      written += session_->model().tokenizer()->token_bytes(piece.token);
      ++counts_.n_written;
    }
    return on_text(piece.text);
  };
  RWKV_ASSIGN(const StopReason reason, session_->generate(options_.max_tokens, on_piece));
  const size_t end =
      reason == StopReason::StopString ? find_stop(written, chat_template().stops) : written.size();
  seen_ = written.substr(end);
  turns_[index].answer = written.substr(0, end);
  return reason;
}

Status Conversation::set_options(const SamplerOptions& sampler, size_t max_tokens) {
  // As on command lines, no token adds up to a probability of 0: the most likely one is meant.
  SamplerOptions changed = sampler;
  if (changed.top_p == 0.0f) {
    changed.top_p = 1.0f;
    changed.top_k = 1;
  }
  RWKV_TRY(session_->set_sampler(changed));
  options_.sampler = changed;
  options_.max_tokens = max_tokens;
  return {};
}

size_t Conversation::kept_bytes() const {
  size_t bytes = base_.state.size();
  for (const Moment& moment : moments_) {
    bytes += moment.state.size();
  }
  return bytes;
}

void Conversation::forget_old_states() {
  for (size_t i = 0; i + 1 < moments_.size() && kept_bytes() > options_.max_kept_bytes; ++i) {
    std::vector<std::byte>().swap(moments_[i].state);
  }
}

}  // namespace rwkv::edge
