#include "compressor/train/progress.h"

#include <csignal>

namespace rwkv::press {
namespace {

constexpr std::chrono::seconds kBetweenLines(10);

volatile std::sig_atomic_t g_wants_end = 0;

void ask_to_end(int signal) {
  g_wants_end = 1;
  std::signal(signal, SIG_DFL);  // the second one ends the program
}

std::string time_text(double seconds) {
  return seconds < 100 ? fmt::format("{:.0f} s", seconds)
                       : fmt::format("{:.0f} min", seconds / 60.0);
}

}  // namespace

TrainProgress::TrainProgress(std::function<void(const std::string& line)> show,
                             std::function<void(const std::string& line)> warn,
                             std::function<bool(const StepReport& report)> on_step)
    : show_(std::move(show)), warn_(std::move(warn)), on_step_(std::move(on_step)) {
  g_wants_end = 0;
  previous_int_ = std::signal(SIGINT, ask_to_end);
  previous_term_ = std::signal(SIGTERM, ask_to_end);
}

TrainProgress::~TrainProgress() {
  std::signal(SIGINT, previous_int_);
  std::signal(SIGTERM, previous_term_);
}

TrainCallbacks TrainProgress::callbacks() {
  TrainCallbacks callbacks;
  callbacks.on_step = [this](const StepReport& report) { return on_step(report); };
  callbacks.on_note = show_;
  callbacks.on_warning = warn_;
  return callbacks;
}

bool TrainProgress::on_step(const StepReport& report) {
  const auto now = std::chrono::steady_clock::now();
  const bool is_last = report.row.step == report.steps || g_wants_end != 0;
  if (on_step_ && on_step_(report)) {
    return g_wants_end == 0;
  }
  if (is_last || now - last_shown_ >= kBetweenLines) {
    last_shown_ = now;
    show_(fmt::format("step {} of {}, loss {:.4f}, {:.0f} tokens/s, {} left", report.row.step,
                      report.steps, report.row.loss, report.tokens_per_second,
                      time_text(report.seconds_left)));
  }
  return g_wants_end == 0;
}

Share share_of(const StepReport& report) {
  Share share(static_cast<double>(report.row.step) / static_cast<double>(report.steps));
  share.loss = report.row.loss;
  share.seconds_left = report.seconds_left;
  return share;
}

Status TrainProgress::interrupted(const Trained& trained, const TrainJob& job) {
  return failed("stopped after step {} of {}, saved in {}; --resume continues from there",
                trained.step, job.options.steps, job.folder);
}

}  // namespace rwkv::press
