// A chat: turns that can be taken back, done again, saved and loaded. The
// state before each turn is kept, so going back reads nothing again and is exact.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/tokenizer/chat_template.h"
#include "runtime/text/session.h"

namespace rwkv::edge {

struct Turn {
  std::string user;    ///< as it was typed
  std::string answer;  ///< bytes that the model wrote, without the stop string
};

struct ConversationOptions {
  const ChatTemplate* chat_template = nullptr;
  SamplerOptions sampler = {};
  size_t max_tokens = 0;  ///< of one answer
  /// Bytes of the states before turns that are kept; at least that of the last turn always is.
  size_t max_kept_bytes = size_t{64} << 20;
};

/// How many tokens were read and written, for speeds.
struct ConversationCounts {
  size_t n_read = 0;
  size_t n_written = 0;
};

/// One caller at a time. The seed, the number of the turn and of its attempt decide a turn's
/// random numbers, so a conversation that was loaded goes on as the one that was saved.
class Conversation {
 public:
  /// Called with the text of an answer as it comes; false ends the answer, which stays.
  using OnText = std::function<bool(std::string_view text)>;
  /// Called while text is read; false gives up, and the conversation is as before the call.
  using OnRead = std::function<bool(size_t n_done, size_t n_tokens)>;

  /// `session` is not used by others any more; its stop strings and sampler are replaced. Usage if
  /// its model has no vocabulary.
  static Result<std::unique_ptr<Conversation>> create(std::unique_ptr<Session> session,
                                                      const ConversationOptions& options);

  /// Begins again with `system` in front of all turns, none if it is empty. The state after it is
  /// kept, so reset() does not read it again. Nothing if `on_read` gave up.
  Result<bool> set_system(const std::string& system, const OnRead& on_read);
  /// Forgets all turns.
  Status reset();
  /// Reads a message and writes the answer. Cancelled if a callback said so; if that was `on_read`,
  /// there is no new turn.
  Result<StopReason> say(const std::string& message, const OnRead& on_read, const OnText& on_text);
  /// Answers the last message again, with other random numbers. Usage if there is none.
  Result<StopReason> retry(const OnRead& on_read, const OnText& on_text);
  /// Takes back the last turn; false if `on_read` gave up. Usage if there is none.
  Result<bool> undo(const OnRead& on_read);

  /// Writes everything to a file: turns, system prompt, template, seed, state.
  Status save(const std::string& path) const;
  /// The inverse. With `keep_seed` the seed in force stays. BadInput for a damaged file and for one
  /// of another model, which change nothing.
  Status load(const std::string& path, bool keep_seed);

  const Session& session() const { return *session_; }
  const std::vector<Turn>& turns() const { return turns_; }
  const std::string& system() const { return system_; }
  const ChatTemplate& chat_template() const { return *options_.chat_template; }
  const SamplerOptions& sampler() const { return options_.sampler; }
  size_t max_tokens() const { return options_.max_tokens; }
  /// From the next answer on. Usage if an option is out of range.
  Status set_options(const SamplerOptions& sampler, size_t max_tokens);
  ConversationCounts counts() const { return counts_; }
  /// Bytes of the states that are kept.
  size_t kept_bytes() const;

 private:
  /// A moment between turns. Models often write the beginning of what follows an answer, which the
  /// state has then seen.
  struct Moment {
    std::vector<std::byte> state;  ///< empty: not kept, or nothing was fed yet
    std::string seen;              ///< the beginning of the next turn's text that is in the state
    bool is_empty = true;          ///< nothing was fed yet
  };

  Conversation(std::unique_ptr<Session> session, const ConversationOptions& options);
  Result<Moment> present() const;
  Status go_to(const Moment& moment);
  Result<bool> feed(std::string_view text, const OnRead& on_read);
  /// The text of a turn up to the answer.
  std::string turn_text(size_t index, const std::string& message) const;
  /// Feeds turn `index`, in which `message` was said, after what the state has already seen.
  Result<bool> feed_turn(size_t index, const std::string& message, const OnRead& on_read);
  /// Brings the state to the moment before turn `index`, reading again what was not kept.
  Result<bool> return_to(size_t index, const OnRead& on_read);
  Result<StopReason> answer(const OnText& on_text);
  void forget_old_states();

  std::unique_ptr<Session> session_;
  ConversationOptions options_;
  std::string system_;
  Moment base_;  ///< before the first turn
  std::vector<Turn> turns_;
  std::vector<Moment> moments_;   ///< before each turn
  std::vector<size_t> attempts_;  ///< of each turn: how often it was done again
  std::string seen_;              ///< of the present state
  bool is_empty_ = true;          ///< nothing was fed to the present state
  ConversationCounts counts_;
};

}  // namespace rwkv::edge
