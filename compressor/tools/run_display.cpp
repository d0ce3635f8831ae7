#include "compressor/tools/run_display.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "formats/base/printable.h"
#include "formats/cli/print.h"

namespace rwkv::press {
namespace {

constexpr std::chrono::milliseconds kBetweenRewritings(100);
constexpr std::chrono::seconds kBetweenLines(5);
constexpr std::chrono::seconds kBetweenLogged(1);
constexpr size_t kWidth = 100;

double cpu_seconds() {
  timespec time = {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string time_text(double seconds) {
  return seconds < 100    ? fmt::format("{:.0f} s", seconds)
         : seconds < 6000 ? fmt::format("{:.0f} min", seconds / 60)
                          : fmt::format("{:.1f} h", seconds / 3600);
}

double since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

RunDisplay::RunDisplay(bool quiet, RunLog& log)
    : quiet_(quiet),
      is_terminal_(::isatty(STDERR_FILENO) != 0),
      log_(log),
      stage_begin_(Clock::now()),
      heard_(stage_begin_) {}

RunDisplay::~RunDisplay() {
  end_line();
}

void RunDisplay::end_line() {
  if (width_ > 0) {
    cli::print(stderr, "\n");
    width_ = 0;
  }
}

void RunDisplay::expect(const WorkEstimate& estimate, const std::optional<Machine>& machine) {
  expected_.clear();
  for (const StageEstimate& stage : estimate.stages) {
    if (machine) {
      expected_.push_back(machine->wall_seconds(stage.needs));
    }
  }
  nlohmann::ordered_json json = to_json(estimate, machine);
  log_.write("estimate", json);
}

void RunDisplay::stage(size_t index, size_t n, const std::string& name, bool ends) {
  if (ends) {
    const StageRecord record = {name, since(stage_begin_), cpu_seconds() - cpu_begin_,
                                peak_bytes()};
    end_line();
    stages_.push_back(record);
    log_.write("stage_end", {{"stage", index + 1},
                             {"stages", n},
                             {"name", name},
                             {"seconds", record.seconds},
                             {"cpu_seconds", record.cpu_seconds},
                             {"peak_memory", record.peak}});
    return;
  }
  index_ = index;
  n_ = n;
  name_ = name;
  what_.clear();
  stage_begin_ = Clock::now();
  heard_ = stage_begin_;
  cpu_begin_ = cpu_seconds();
  shown_ = stage_begin_;
  logged_ = stage_begin_;
  log_.write("stage_begin", {{"stage", index + 1}, {"stages", n}, {"name", name}});
}

std::optional<double> RunDisplay::stage_left(const Share& share) const {
  if (share.seconds_left || share.done <= 0) {
    return share.seconds_left;
  }
  return since(what_begin_) * (1 - share.done) / share.done;
}

// What later stages are expected to take, as much longer as those before took.
std::optional<double> RunDisplay::all_left(const Share& share) const {
  const std::optional<double> here = stage_left(share);
  if (!here || index_ + 1 >= expected_.size()) {
    return here;
  }
  double took = since(stage_begin_);
  double expected = expected_[index_] * share.done;
  for (const StageRecord& stage : stages_) {
    took += stage.seconds;
  }
  for (size_t i = index_ - std::min(index_, stages_.size()); i < index_; ++i) {
    expected += expected_[i];
  }
  constexpr double kMost = 5;
  const double factor = expected > 0 ? std::clamp(took / expected, 1 / kMost, kMost) : 1;
  double later = 0;
  for (size_t i = index_ + 1; i < expected_.size(); ++i) {
    later += expected_[i];
  }
  return *here + factor * later;
}

std::string RunDisplay::line_for(const std::string& what, const Share& share) const {
  std::string line = n_ > 0 ? fmt::format("stage {}/{} {}", index_ + 1, n_, name_) : what;
  if (n_ > 0 && what != name_ && name_ != "pack") {
    line += ", " + what;
  }
  if (share.blocks > 0) {
    line += fmt::format(", block {}/{}", share.block, share.blocks);
  }
  line += fmt::format(": {:.0f} %", 100 * share.done);
  if (share.loss) {
    line += fmt::format(", loss {:.4f}", *share.loss);
  }
  if (const auto left = stage_left(share)) {
    line += fmt::format(", {} left", time_text(*left));
    const auto all = all_left(share);
    if (all && index_ + 1 < expected_.size()) {
      line += fmt::format("; all stages {}", time_text(*all));
    }
  }
  return line;
}

void RunDisplay::show(const std::string& line) {
  const std::string text = printable(line, line.size());
  if (!is_terminal_) {
    cli::print(stderr, "{}\n", text);
    return;
  }
  const std::string cut = text.substr(0, kWidth);
  std::fputs("\r", stderr);
  cli::print(stderr, "{:<{}}", cut, std::max(cut.size(), width_));
  std::fflush(stderr);
  width_ = std::max<size_t>(1, cut.size());
}

void RunDisplay::progress(const std::string& what, const Share& share) {
  const auto now = Clock::now();
  if (what != what_) {
    what_ = what;
    what_begin_ = heard_;
  }
  heard_ = now;
  if (now - logged_ >= kBetweenLogged && log_.is_on()) {
    logged_ = now;
    nlohmann::ordered_json fields = {{"stage", index_ + 1},
                                     {"stages", n_},
                                     {"name", name_},
                                     {"what", what},
                                     {"share", share.done}};
    if (share.blocks > 0) {
      fields["block"] = share.block;
      fields["blocks"] = share.blocks;
    }
    if (share.loss) {
      fields["loss"] = *share.loss;
    }
    if (const auto left = stage_left(share)) {
      fields["seconds_left"] = *left;
      fields["seconds_left_of_all"] = all_left(share).value_or(*left);
    }
    log_.write("progress", fields);
  }
  const auto between = is_terminal_ ? Clock::duration(kBetweenRewritings) : kBetweenLines;
  // A training says its steps itself where lines are not rewritten.
  const bool is_said = share.loss && !is_terminal_;
  if (!quiet_ && !is_said && now - shown_ >= between) {
    shown_ = now;
    show(line_for(what, share));
  }
}

void RunDisplay::report(const std::string& line) {
  log_.write("note", {{"text", line}});
  if (!quiet_) {
    end_line();
    cli::print(stderr, "{}\n", printable(line, line.size()));
  }
}

void RunDisplay::warn(const std::string& line) {
  log_.write("warning", {{"text", line}});
  end_line();
  cli::print(stderr, "rwkv-press: warning: {}\n", printable(line, line.size()));
}

}  // namespace rwkv::press
