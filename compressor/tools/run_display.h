// A run as people see it: stage, block, loss and the time that is left, on a terminal in one line
// that is rewritten, otherwise a line now and then; and the same for the JSON log.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "compressor/estimate/estimate.h"
#include "compressor/numerics/share.h"
#include "compressor/tools/run_log.h"

namespace rwkv::press {

/// What a stage took.
struct StageRecord {
  std::string name;
  double seconds = 0;
  double cpu_seconds = 0;
  uint64_t peak = 0;  ///< VmHWM at its end: the most that the process has held so far
};

class RunDisplay {
 public:
  /// `log` must outlive it.
  RunDisplay(bool quiet, RunLog& log);
  ~RunDisplay();
  RunDisplay(const RunDisplay&) = delete;
  RunDisplay& operator=(const RunDisplay&) = delete;

  /// For the time that is left of all stages.
  void expect(const WorkEstimate& estimate, const std::optional<Machine>& machine);
  /// Before and after stage `index` of `n`, from 0.
  void stage(size_t index, size_t n, const std::string& name, bool ends);
  void progress(const std::string& what, const Share& share);
  /// A line to keep, and one that is shown even if the display is quiet.
  void report(const std::string& line);
  void warn(const std::string& line);
  /// Ends the line that is being rewritten.
  void end_line();
  /// Whether it rewrites a line.
  bool is_terminal() const { return is_terminal_ && !quiet_; }

  const std::vector<StageRecord>& stages() const { return stages_; }

 private:
  using Clock = std::chrono::steady_clock;
  std::string line_for(const std::string& what, const Share& share) const;
  std::optional<double> stage_left(const Share& share) const;
  std::optional<double> all_left(const Share& share) const;
  void show(const std::string& line);

  bool quiet_;
  bool is_terminal_;
  RunLog& log_;
  std::vector<double> expected_;  // seconds of each stage; empty: not known
  std::vector<StageRecord> stages_;
  size_t index_ = 0;
  size_t n_ = 0;
  std::string name_;
  std::string what_;
  Clock::time_point stage_begin_;
  Clock::time_point heard_;  // the last progress, or the begin of the stage
  Clock::time_point what_begin_;
  Clock::time_point shown_;
  Clock::time_point logged_;
  double cpu_begin_ = 0;
  size_t width_ = 0;  // of the line that is being rewritten; 0: none
};

}  // namespace rwkv::press
