// One text in progress: an evaluator with its threads, the recurrent state, the sampler, and the
// conversion of tokens to text that can be shown. Feed a prompt, then generate; both any number of
// times, in any order. The C API (runtime/include/rwkv_edge.h) is a thin layer over this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/file.h"
#include "runtime/model/evaluator.h"
#include "runtime/text/sampler.h"
#include "runtime/text/stop_strings.h"
#include "runtime/text/utf8_stream.h"

namespace rwkv::edge {

struct SessionOptions {
  unsigned n_threads = 1;  ///< including the calling one; 0: as many as the process may run
  size_t max_chunk = 32;   ///< tokens of a prompt per pass; scratch memory grows with it
  SamplerOptions sampler = {};
  std::vector<std::string> stop_strings = {};  ///< bytes; not shown when they end a text
};

/// The output of generate(): a token, and the characters that it completes.
struct Piece {
  int32_t token;          ///< kNoToken for text that was held back until the end
  std::string_view text;  ///< whole UTF-8 characters or nothing; valid during the callback
};
inline constexpr int32_t kNoToken = -1;

/// Why generate() ended.
enum class StopReason { MaxTokens, EndOfText, StopString, Cancelled };

/// The token that ends a text: id 0 of World vocabularies unless it is a word there, <|endoftext|>
/// of BPE ones, <end> of words; kNoToken if the vocabulary has none, or the model no vocabulary.
int32_t end_of_text_token(const Model& model);

/// One caller at a time; sessions of the same model are independent.
class Session {
 public:
  /// Called once per token; false cancels. Must not call the session that calls it.
  using OnPiece = std::function<bool(const Piece&)>;

  /// Usage if an option is out of range, Failed if memory or threads are lacking.
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model,
                                                 const SessionOptions& options);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// An independent session with its own threads that continues from the present state.
  Result<std::unique_ptr<Session>> clone() const;

  const Model& model() const { return *model_; }

  /// Evaluates any number of tokens. An id outside the vocabulary is BadInput and nothing is fed.
  Status feed_tokens(std::span<const int32_t> tokens);
  /// The same in pieces; `goes_on` is called after each with the number of tokens done. If it
  /// returns false before the end, the rest is not fed, the result is false, and nothing can be
  /// generated until something is fed.
  Result<bool> feed_tokens(std::span<const int32_t> tokens,
                           const std::function<bool(size_t n_done)>& goes_on);
  /// The same for text; BadInput if the model has no vocabulary or cannot split the text.
  Status feed_text(std::string_view text);

  /// Chooses tokens one after the other. Every token that is handed out is also fed, even the one
  /// at which the callback cancels, so another call continues seamlessly. The end-of-text token is
  /// neither handed out nor fed. Usage unless can_generate(), BadInput if logits are not finite.
  /// Allocates nothing per token.
  /// Without a vocabulary all text is empty and no token ends the text.
  Result<StopReason> generate(size_t max_tokens, const OnPiece& on_piece);

  /// Usage if nothing was fed yet.
  Status can_generate() const;

  /// Tokens evaluated since the session was made, prompts included.
  size_t n_evaluated() const { return n_evaluated_; }

  /// Logits of the next token, [n_vocab]; empty if nothing was fed yet. Valid until the next
  /// change.
  std::span<const float> logits() const;

  /// Replaces the sampler by a new one: nothing counted, the generator at the seed.
  Status set_sampler(const SamplerOptions& options);
  Status set_stop_strings(std::vector<std::string> stops);

  /// Forgets everything that was fed and generated: back to the state that the model begins with.
  void reset();

  // A saved state is the memory of the model, without logits and sampler. Loading one is like
  // reset(), so at least one token must be fed before generate(). A state that is damaged or
  // belongs to another model is BadInput and changes nothing.
  size_t state_bytes() const { return state_.saved_bytes(); }
  Status save_state(std::span<std::byte> out) const { return state_.save(out); }
  Status load_state(std::span<const std::byte> bytes);

  // The same in a file, which has the logits too, so that generate() may follow at once, and
  // `history`, any bytes of the caller: the words of a chat. See runtime/model/state_file.h.
  Status save_state_file(const std::string& path, OutputFile::Existing existing,
                         std::string_view history = "") const;
  /// Returns the history. Files of tuned states (.safetensors) have neither history nor logits.
  Result<std::string> load_state_file(const std::string& path);

 private:
  Session(std::shared_ptr<const Model> model, const SessionOptions& options);
  /// Hands out the text that is still held back.
  StopReason finish(const OnPiece& on_piece, StopReason reason);
  std::string_view bytes_of(int32_t token) const;
  void forget_text();
  void take_logits(std::span<const float> logits);

  std::shared_ptr<const Model> model_;
  SessionOptions options_;
  Evaluator evaluator_;
  State state_;
  Sampler sampler_;
  StopStrings stops_;
  Utf8Stream utf8_;
  int32_t end_of_text_;
  std::vector<float> logits_;
  std::vector<float> scratch_;  ///< the sampler overwrites the logits it is given
  bool has_logits_ = false;
  size_t n_evaluated_ = 0;
};

}  // namespace rwkv::edge
