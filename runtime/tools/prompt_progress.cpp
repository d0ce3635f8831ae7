#include "runtime/tools/prompt_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "formats/cli/print.h"
#include "runtime/tools/interrupt.h"

namespace rwkv::edge {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(200);

}  // namespace

PromptProgress::PromptProgress(size_t n_tokens, bool quiet)
    : n_tokens_(n_tokens),
      is_shown_(!quiet && ::isatty(STDERR_FILENO) != 0),
      last_(std::chrono::steady_clock::now()) {}

PromptProgress::~PromptProgress() {
  if (has_line_) {
    std::fputs("\r\x1b[K", stderr);
    std::fflush(stderr);
  }
}

void PromptProgress::update(size_t n_done) {
  const auto now = std::chrono::steady_clock::now();
  if (!is_shown_ || now - last_ < kInterval || n_done >= n_tokens_) {
    return;
  }
  last_ = now;
  has_line_ = true;
  std::fputs("\r", stderr);
  cli::print(stderr, "reading the prompt: {} of {} tokens", n_done, n_tokens_);
  std::fflush(stderr);
}

Result<bool> feed_with_progress(Session& session, std::span<const int32_t> tokens, bool quiet) {
  PromptProgress progress(tokens.size(), quiet);
  return session.feed_tokens(tokens, [&](size_t n_done) {
    progress.update(n_done);
    return !CatchInterrupts::requested();
  });
}

}  // namespace rwkv::edge
