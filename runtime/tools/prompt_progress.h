// A line on a terminal while a prompt is read, gone when it is done: reading takes minutes on a
// small device.
#pragma once

#include <chrono>
#include <cstddef>

#include "runtime/text/session.h"

namespace rwkv::edge {

/// Feeds `tokens` with such a line, unless `quiet` or standard error is no terminal. False if
/// Ctrl-C was pressed meanwhile (see CatchInterrupts); what was fed by then stays.
Result<bool> feed_with_progress(Session& session, std::span<const int32_t> tokens, bool quiet);

/// The same for code that feeds on its own: call it with the tokens that are done.
class PromptProgress {
 public:
  PromptProgress(size_t n_tokens, bool quiet);
  ~PromptProgress();
  PromptProgress(const PromptProgress&) = delete;
  PromptProgress& operator=(const PromptProgress&) = delete;

  void update(size_t n_done);

 private:
  size_t n_tokens_;
  bool is_shown_;
  bool has_line_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace rwkv::edge
