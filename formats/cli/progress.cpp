#include "formats/cli/progress.h"
#include "formats/cli/print.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace rwkv::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kBarInterval = std::chrono::milliseconds(100);
constexpr auto kLineInterval = std::chrono::seconds(5);
constexpr size_t kBarWidth = 30;

}  // namespace

Progress::Progress(std::string label, uint64_t total, bool quiet)
    : label_(std::move(label)),
      total_(std::max<uint64_t>(1, total)),
      quiet_(quiet),
      is_terminal_(::isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      // A terminal shows the bar at the first update.
      last_print_(is_terminal_ ? start_ - kBarInterval : start_) {}

Progress::~Progress() {
  // Where lines are not written over, the last may be there already.
  if (!quiet_ && printed_ && (is_terminal_ || done_ != printed_done_)) {
    print(done_, true);
  }
}

void Progress::update(uint64_t done) {
  done_ = done;
  if (quiet_) {
    return;
  }
  const auto now = Clock::now();
  if (now - last_print_ >= (is_terminal_ ? Clock::duration(kBarInterval) : kLineInterval)) {
    last_print_ = now;
    print(done, false);
  }
}

void Progress::print(uint64_t done, bool last) {
  printed_ = true;
  printed_done_ = done;
  const double share = static_cast<double>(done) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  const double left = share > 0 ? seconds * (1 - share) / share : 0;
  if (is_terminal_) {
    const auto filled =
        std::min(kBarWidth, static_cast<size_t>(share * static_cast<double>(kBarWidth)));
    std::fputs("\r", stderr);
    cli::print(stderr, "{} [{}{}] {:3.0f} % {:.0f} s left {}", label_, std::string(filled, '='),
               std::string(kBarWidth - filled, ' '), 100 * share, left, last ? "\n" : "");
  } else {
    cli::print(stderr, "{}: {:.0f} %, {:.0f} s\n", label_, 100 * share, seconds);
  }
  std::fflush(stderr);
}

void Bars::update(const std::string& what, double share) {
  constexpr double kSteps = 1000;
  if (what != current_ || !bar_) {
    bar_.reset();  // its last line comes before the first of the next
    bar_ = std::make_unique<Progress>(what, static_cast<uint64_t>(kSteps), quiet_);
    current_ = what;
  }
  bar_->update(static_cast<uint64_t>(share * kSteps));
  if (share >= 1) {
    end();
  }
}

}  // namespace rwkv::cli
